// Plays the mixture and the sources in sync. Signals are read a few seconds at a time, so that memory does not grow with
// their length.

const CHUNK_SECONDS = 4;
const FADE_SECONDS = 0.02;

/** Plays several signals of equal length. Each has its own gain, and all share one clock. */
export class Player {
  /**
   * @param {object} options
   * @param {number} options.rate sample rate of the signals in Hz.
   * @param {number} options.length length of the signals in samples.
   * @param {number} options.count number of signals.
   * @param {(start: number, stop: number) => Promise<Float32Array[]>} options.read the signals from
   *   `start` to before `stop`.
   * @param {() => void} options.onchange called when playing starts or ends.
   * @param {(error: Error) => void} options.onerror called when playing ends because the signals cannot be read.
   */
  constructor({ rate, length, count, read, onchange, onerror }) {
    Object.assign(this, { rate, length, read, onchange, onerror, playing: false, offset: 0 });
    this.context = new AudioContext({ sampleRate: rate });
    this.gains = Array.from({ length: count }, () => {
      const gain = this.context.createGain();
      gain.connect(this.context.destination);
      return gain;
    });
    this.run = 0;
    this.nodes = new Set();
  }

  /** Length in seconds. */
  get duration() {
    return this.length / this.rate;
  }

  /** The position in seconds. */
  get time() {
    if (!this.playing || this.origin === null) return this.offset;
    return Math.min(Math.max(this.context.currentTime - this.origin, this.offset), this.duration);
  }

  setAudible(signal, audible) {
    this.gains[signal].gain.setTargetAtTime(audible ? 1 : 0, this.context.currentTime, FADE_SECONDS / 3);
  }

  async play() {
    if (this.playing) return;
    if (this.offset >= this.duration) this.offset = 0;
    this.playing = true;
    this.origin = null;
    this.onchange();
    const run = ++this.run;
    try {
      await this.playFrom(this.offset, run);
    } catch (error) {
      if (this.run !== run) return;
      this.pause();
      this.onerror(error);
    }
  }

  /** Plays from a position in seconds to the end, as long as `run` is the current run. */
  async playFrom(offset, run) {
    await this.context.resume();
    const chunk = CHUNK_SECONDS * this.rate;
    for (let start = Math.round(offset * this.rate); start < this.length; start += chunk) {
      const signals = await this.read(start, Math.min(start + chunk, this.length));
      if (this.run !== run) return;
      // Sample 0 of the recording is at the time `origin` of the context.
      this.origin ??= this.context.currentTime + 0.05 - offset;
      signals.forEach((samples, signal) => this.schedule(samples, signal, this.origin + start / this.rate));
      while (this.run === run && this.time < start / this.rate) await this.pause100ms();
      if (this.run !== run) return;
    }
    while (this.run === run && this.time < this.duration) await this.pause100ms();
    if (this.run !== run) return;
    this.stop();
    this.offset = this.duration;
    this.onchange();
  }

  schedule(samples, signal, when) {
    const buffer = this.context.createBuffer(1, samples.length, this.rate);
    buffer.copyToChannel(samples, 0);
    const node = this.context.createBufferSource();
    node.buffer = buffer;
    node.connect(this.gains[signal]);
    node.onended = () => this.nodes.delete(node);
    // Samples that arrive too late are skipped, so that the signal stays in time with the clock.
    const late = Math.max(this.context.currentTime - when, 0);
    if (late < buffer.duration) node.start(when + late, late);
    this.nodes.add(node);
  }

  pause100ms() {
    return new Promise((resolve) => setTimeout(resolve, 100));
  }

  pause() {
    this.stop();
    this.onchange();
  }

  stop() {
    this.offset = this.time;
    this.playing = false;
    this.run += 1;
    for (const node of this.nodes) node.stop();
    this.nodes.clear();
  }

  async seek(seconds) {
    const wasPlaying = this.playing;
    this.stop();
    this.offset = Math.min(Math.max(seconds, 0), this.duration);
    if (wasPlaying) await this.play();
    else this.onchange();
  }

  async close() {
    this.stop();
    await this.context.close();
  }
}
