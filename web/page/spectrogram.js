// Spectrograms of recordings of any length, computed block by block, as pictures of limited width.

import { powerSpectrum } from "./fft.js";

const COLUMNS = 1000;
const FRAMES_PER_COLUMN = 4;
const FRAME_SECONDS = 0.032;
const RANGE_DB = 70;

/** The spectrograms of several signals of equal length. */
export class Spectrograms {
  /**
   * @param {number} count number of signals.
   * @param {number} length length of the signals in samples.
   * @param {number} rate sample rate in Hz.
   */
  constructor(count, length, rate) {
    this.frame = 2 ** Math.round(Math.log2(FRAME_SECONDS * rate));
    this.rows = this.frame / 2;
    const frames = Math.max(Math.floor((2 * length) / this.frame), 1); // more would overlap by more than half
    this.columns = Math.min(COLUMNS, frames);
    this.length = length;
    const perColumn = Math.min(FRAMES_PER_COLUMN, Math.max(Math.floor(frames / this.columns), 1));
    this.firsts = Array.from({ length: this.columns * perColumn }, (_, i) => Math.floor((i * length) / (this.columns * perColumn)));
    this.next = 0;
    this.perColumn = perColumn;
    this.powers = Array.from({ length: count }, () => new Float32Array(this.columns * this.rows));
    this.window = Float32Array.from({ length: this.frame }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * n) / this.frame));
    this.tail = Array.from({ length: count }, () => new Float32Array(0));
    this.begin = 0;
  }

  /** Adds the next block of all signals; `last` marks the final one. */
  add(signals, last = false) {
    const kept = signals.map((signal, s) => {
      const joined = new Float32Array(this.tail[s].length + signal.length + (last ? this.frame : 0));
      joined.set(this.tail[s]);
      joined.set(signal, this.tail[s].length);
      return joined;
    });
    const end = this.begin + kept[0].length;
    while (this.next < this.firsts.length && this.firsts[this.next] + this.frame <= end) {
      const first = this.firsts[this.next] - this.begin;
      const column = Math.floor(this.next / this.perColumn);
      kept.forEach((signal, s) => {
        const power = powerSpectrum(signal.subarray(first, first + this.frame).map((x, n) => x * this.window[n]), this.frame);
        for (let k = 0; k < this.rows; k++) this.powers[s][column * this.rows + k] += power[k];
      });
      this.next += 1;
    }
    const needed = this.next < this.firsts.length ? Math.max(this.firsts[this.next] - this.begin, 0) : kept[0].length;
    this.tail = kept.map((signal) => signal.slice(needed));
    this.begin += Math.min(needed, kept[0].length);
  }

  /** One picture per signal: one byte per pixel, row by row from the highest frequency. All use the same scale. */
  pictures() {
    let loudest = 0;
    for (const powers of this.powers) for (const power of powers) loudest = Math.max(loudest, power);
    const top = 10 * Math.log10(loudest + 1e-30);
    return this.powers.map((powers) => {
      const picture = new Uint8Array(powers.length);
      for (let column = 0; column < this.columns; column++) {
        for (let k = 0; k < this.rows; k++) {
          const level = (10 * Math.log10(powers[column * this.rows + k] + 1e-30) - top + RANGE_DB) / RANGE_DB;
          picture[(this.rows - 1 - k) * this.columns + column] = loudest ? 255 * Math.max(0, Math.min(1, level)) : 0;
        }
      }
      return picture;
    });
  }
}
