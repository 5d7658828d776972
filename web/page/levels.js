// Resamples a recording to the model's rate, measures its level, and removes a constant offset.
// The counterpart of separation/resampled.py and model/levels.py of the Python package.

import { Resampler } from "./resample.js";

/** Samples per block. */
export const BLOCK = 2 ** 18;
// An offset below this fraction of the RMS does not affect the separation.
const OFFSET_SHARE = 0.1;
// A removed constant leaves rounding errors of up to this fraction of it. They do not count as sound.
const ROUNDING = 1e-6;

/** The mean of a signal with this mean and power; 0 if it is negligible. */
function offsetOf(mean, power) {
  return Math.abs(mean) > OFFSET_SHARE * Math.sqrt(Math.max(power - mean * mean, 0)) ? mean : 0;
}

function sumsOf(samples) {
  let [sum, energy] = [0, 0];
  for (let i = 0; i < samples.length; i++) {
    sum += samples[i];
    energy += samples[i] * samples[i];
  }
  return [sum, energy];
}

/** A recording at the model's rate, without its constant offset. */
export class Mixture {
  /**
   * Reads and measures a recording.
   *
   * @param {AsyncIterable<Float32Array>} blocks the recording, mixed down to mono.
   * @param {number} rate its sample rate in Hz.
   * @param {number} modelRate the model's sample rate in Hz.
   * @returns {Promise<Mixture>}
   */
  static async from(blocks, rate, modelRate) {
    const mixture = new Mixture();
    Object.assign(mixture, { rate, modelRate, duration: 0, heard: false });
    const resampler = new Resampler(rate, modelRate);
    const parts = [];
    let early = null;
    for await (const block of blocks) {
      mixture.duration += block.length;
      mixture.heard ||= block.some((sample) => sample !== 0);
      if (early === null) {
        // Removed before resampling, which would turn the jump at both ends into clicks.
        const [sum, energy] = sumsOf(block);
        early = offsetOf(sum / block.length, energy / block.length);
      }
      const removed = Math.fround(early);
      parts.push(resampler.push(removed ? block.map((sample) => sample - removed) : block));
    }
    parts.push(resampler.finish());
    mixture.samples = concatenate(parts);
    mixture.measure(early ?? 0);
    return mixture;
  }

  /** Measures the level of the whole recording, and removes what is left of the offset after `early` was removed. */
  measure(early) {
    const { samples } = this;
    const length = Math.max(samples.length, 1);
    const [sum, energy] = sumsOf(samples);
    const mean = sum / length;
    const late = early !== 0 ? mean : offsetOf(mean, energy / length);
    this.offset = early + late;
    let power = Math.max(energy / length - (late !== 0 ? mean * mean : 0), 0);
    if (power < (ROUNDING * this.offset) ** 2) power = 0;
    if (late) {
      const removed = Math.fround(late);
      for (let i = 0; i < samples.length; i++) samples[i] -= removed;
    }
    this.rms = Math.sqrt(power);
    this.loudness = power > 0 ? loudness(samples) : 0;
  }

  get length() {
    return this.samples.length;
  }

  /** Whether a part of the recording contains sound, as opposed to zeros or a constant offset. */
  isHeard(samples) {
    if (this.offset === 0) return samples.some((sample) => sample !== 0);
    let [least, most] = [Infinity, -Infinity];
    for (const sample of samples) {
      least = Math.min(least, sample);
      most = Math.max(most, sample);
    }
    return most - least > ROUNDING * Math.abs(this.offset);
  }
}

/** RMS of the samples whose power is at least the mean, so that pauses do not count. */
export function loudness(samples) {
  let [total, peak] = [0, 0];
  for (let i = 0; i < samples.length; i++) {
    const power = samples[i] * samples[i];
    total += power;
    if (power > peak) peak = power;
  }
  const threshold = Math.min(total / samples.length, peak);
  let [loud, count] = [0, 0];
  for (let i = 0; i < samples.length; i++) {
    const power = samples[i] * samples[i];
    if (power < threshold) continue;
    loud += power;
    count += 1;
  }
  return Math.sqrt(loud / count);
}

/** The gain that scales a signal of this loudness to a level in dB; 1 if the level is null or the signal is silent. */
export function inputGain(loudness, levelDb) {
  return levelDb === null || loudness === 0 ? 1 : 10 ** (levelDb / 20) / loudness;
}

/** Joins signals. Each part is removed from `parts` when it has been copied, so that memory does not double. */
export function concatenate(parts) {
  if (parts.length === 1) return Float32Array.from(parts[0]);
  const joined = new Float32Array(parts.reduce((length, part) => length + part.length, 0));
  let position = 0;
  while (parts.length) {
    const part = parts.shift();
    joined.set(part, position);
    position += part.length;
  }
  return joined;
}
