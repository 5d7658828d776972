// The separation of one recording: applies the network to windows, ties the speakers across windows, and joins the sources.
// The counterpart of separation/recording.py of the Python package.

import { inputGain } from "./levels.js";
import { Resampler } from "./resample.js";
import { SourceStatistics } from "./statistics.js";
import { SpeakerTies } from "./tying.js";
import { encodeSamples, wavFile } from "./wav.js";
import { Crossfade, windowStarts } from "./windows.js";

export const WINDOW_SECONDS = 8;
// Peak of a file that is scaled down; leaves headroom for rounding and for the overshoot of a converter.
const SAFE_PEAK = 0.99;
// Peak at the model's rate below which a source is assumed to stay within +-1 when it is resampled.
const OVERSHOOT = 0.7;
const CACHED_WINDOWS = 3;

/** Stores the outputs of all windows as blobs, because browsers move large blobs out of memory. */
class WindowStore {
  constructor() {
    this.blobs = [];
    this.cache = new Map();
  }

  add(sources) {
    this.blobs.push(new Blob(sources));
  }

  /** The outputs of a window, in the network's order. */
  async read(number, numSources) {
    if (!this.cache.has(number)) {
      if (this.cache.size >= CACHED_WINDOWS) this.cache.delete(this.cache.keys().next().value);
      const samples = new Float32Array(await this.blobs[number].arrayBuffer());
      const length = samples.length / numSources;
      this.cache.set(number, Array.from({ length: numSources }, (_, c) => samples.subarray(c * length, (c + 1) * length)));
    }
    return this.cache.get(number);
  }
}

/** Thrown to abort a separation. */
export class Cancelled extends Error {}

/** A recording and its sources, at the model's rate. */
export class Separation {
  /**
   * @param {import("./levels.js").Mixture} mixture
   * @param {{numSources: number, inputLevelDb: number | null, minSamples: number}} model
   * @param {string} subtype sample format of the files to write.
   */
  constructor(mixture, model, subtype = "PCM_16") {
    const { length, modelRate } = mixture;
    if (length < model.minSamples) {
      const seconds = (model.minSamples / modelRate).toPrecision(2);
      throw new Error(`The recording is too short: it must be at least ${seconds} s long.`);
    }
    const window = Math.min(Math.round(WINDOW_SECONDS * modelRate), length);
    const hop = window - Math.floor(window / 2);
    const starts = windowStarts(length, window, hop);
    const gain = inputGain(mixture.loudness, model.inputLevelDb);
    Object.assign(this, { mixture, subtype, window, hop, starts, gain, length, numSources: model.numSources });
    this.crossfade = new Crossfade(starts, window, hop);
    this.store = new WindowStore();
    this.boundaries = [];
    this.orders = starts.map(() => Array.from({ length: model.numSources }, (_, c) => c));
    this.statistics = new SourceStatistics(model.numSources);
  }

  get silent() {
    return this.mixture.loudness === 0;
  }

  /**
   * Separates all windows and ties the speakers across them.
   *
   * @param {(window: Float32Array) => Promise<Float32Array[]>} network computes the outputs for a window.
   * @param {(done: number, total: number) => void | Promise<void>} progress called after each window with the number of
   *   windows done. It may throw `Cancelled`.
   */
  async run(network, progress = () => {}) {
    if (this.silent) return;
    const { mixture, starts, window, gain } = this;
    const ties = new SpeakerTies(this.numSources, mixture.modelRate, mixture.loudness * gain);
    for (let number = 0; number < starts.length; number++) {
      const samples = mixture.samples.subarray(starts[number], starts[number] + window);
      const level = Math.fround(gain);
      const sources = (await network(samples.map((sample) => sample * level))).map((source) => Float32Array.from(source));
      if (sources.some((source) => !Number.isFinite(source.reduce((sum, sample) => sum + sample, 0)))) {
        throw new Error("The network's output is not finite. Try another model.");
      }
      // A network without masks (direct decoding) gives non-zero outputs for silence.
      if (!mixture.isHeard(samples)) sources.forEach((source) => source.fill(0));
      if (starts.length > 1) ties.add(sources, starts[number]);
      this.store.add(sources);
      await progress(number + 1, starts.length);
    }
    if (starts.length === 1) return;
    const solved = ties.solve();
    this.orders = solved.orders;
    const middle = (this.hop + window) / 2;
    this.boundaries = solved.ties.map((tie, i) => ({ time: (starts[i] + middle) / mixture.modelRate, ...tie }));
  }

  /** The sources from `start` to before `stop`, at their level in the mixture. */
  async read(start, stop) {
    const sources = Array.from({ length: this.numSources }, () => new Float32Array(stop - start));
    if (this.silent) return sources;
    const undone = Math.fround(1 / this.gain);
    for (let number = 0; number < this.starts.length; number++) {
      const { begin, end } = this.crossfade.span(number);
      const [from, to] = [Math.max(begin, start), Math.min(end, stop)];
      if (from >= to) continue;
      const outputs = await this.store.read(number, this.numSources);
      const weights = this.crossfade.weights(number, from, to);
      const shift = from - this.starts[number];
      this.orders[number].forEach((output, speaker) => {
        const samples = outputs[output];
        const source = sources[speaker];
        for (let i = 0; i < weights.length; i++) source[from - start + i] += samples[shift + i] * weights[i] * undone;
      });
    }
    return sources;
  }

  /** Yields the sources of the whole recording block by block, as `[start, sources]`. */
  async *blocks() {
    for (let start = 0; start < this.length; start += this.hop) {
      yield [start, await this.read(start, Math.min(start + this.hop, this.length))];
    }
  }

  /** Possible problems, one line each. All sources must have been added to `statistics`. */
  warnings() {
    const { heard, rms, offset } = this.mixture;
    const lines = this.statistics.warnings();
    if (!heard) lines.push("the recording is silent");
    else if (rms === 0 && offset) lines.push("the recording is silent except for a constant offset");
    else if (this.silent) lines.push("the recording's channels cancel each other when mixed down");
    const undecided = this.boundaries.filter((boundary) => boundary.evidence === "none");
    if (undecided.length) {
      const first = undecided[0].time.toFixed(1);
      lines.push(`speakers may swap at ${undecided.length} of ${this.boundaries.length} boundaries, first at ${first} s`);
    }
    return lines;
  }

  /** Yields a source (all sources if `speaker` is null) at the recording's own rate and length, block by block. */
  async *restored(speaker) {
    const { rate, modelRate, duration } = this.mixture;
    const chosen = (sources) => (speaker === null ? sources : [sources[speaker]]);
    const count = speaker === null ? this.numSources : 1;
    const resamplers = Array.from({ length: count }, () => new Resampler(modelRate, rate));
    let left = duration;
    const cut = (blocks) => {
      const parts = blocks.map((block) => block.subarray(0, Math.max(left, 0)));
      left -= parts[0].length;
      return parts;
    };
    for await (const [, sources] of this.blocks()) yield cut(chosen(sources).map((block, c) => resamplers[c].push(block)));
    yield cut(resamplers.map((resampler) => resampler.finish()));
    if (left > 0) yield chosen(Array.from({ length: this.numSources }, () => new Float32Array(left)));
  }

  /** The common gain of all files; below 1 if an integer format would clip one of them. */
  async fileGain() {
    if (this.subtype === "FLOAT" || Math.max(...this.statistics.peaks) < OVERSHOOT) return 1;
    let peak = 0;
    for await (const sources of this.restored(null)) {
      for (const block of sources) for (const sample of block) peak = Math.max(peak, Math.abs(sample));
    }
    return peak > 1 ? SAFE_PEAK / peak : 1;
  }

  /** A source as a WAV file with the recording's own rate and length. */
  async file(speaker) {
    this.knownGain ??= this.fileGain();
    const gain = Math.fround(await this.knownGain);
    const parts = [];
    for await (const [block] of this.restored(speaker)) {
      parts.push(new Blob([encodeSamples(gain === 1 ? block : block.map((sample) => sample * gain), this.subtype)]));
    }
    return wavFile(parts, this.mixture.duration, this.mixture.rate, this.subtype);
  }
}
