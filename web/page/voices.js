// Describes a talker by sums of log-pitch and cepstra over voiced frames.
// The counterpart of separation/voices.py of the Python package.

import { fft, nextFastLength } from "./fft.js";

const FRAME_SECONDS = 0.04;
const HOP_SECONDS = 0.02;
const [LOWEST_PITCH, HIGHEST_PITCH] = [60, 400];
const NUM_BANDS = 20;
const BANDS_HZ = [100, 3800];
const NUM_CEPSTRA = 12;
const GATE_DB = -30;
const MIN_PERIODICITY = 0.5;
const MIN_DOMINANCE_DB = 6;
const OCTAVE_COST = 0.02;
// Variances of log-pitch and of the cepstra: between speakers, and from frame to frame of one speaker.
const BETWEEN_SPEAKERS = [0.07, 5.0, 1.4, 0.82, 0.63, 0.3, 0.26, 0.17, 0.2, 0.16, 0.15, 0.07, 0.06];
const WITHIN_SPEAKER = [0.95, 80, 94, 47, 26, 19, 13, 10, 7.6, 8.2, 7.8, 6.3, 6];
const ENOUGH_FRAMES = 500;
const TEMPERATURE = 0.4;
const ATYPICAL = 0.02;
const TINY = 1.1754943508222875e-38; // of float32

/** Number of sums per source: of dominant frames, of voiced frames, and of log-pitch and cepstra over voiced frames. */
export const NUM_SUMS = 3 + NUM_CEPSTRA;

/**
 * The voice sums of each source. Sums of several segments add up; they do not depend on the level.
 *
 * @param {Float32Array[]} sources separated sources.
 * @param {number} sampleRate in Hz.
 * @param {number} loudness RMS of the loud parts of the whole mixture.
 * @returns {Float64Array[]} `NUM_SUMS` numbers per source.
 */
export function voiceSums(sources, sampleRate, loudness) {
  const sums = sources.map(() => new Float64Array(NUM_SUMS));
  const frame = Math.round(FRAME_SECONDS * sampleRate);
  const hop = Math.round(HOP_SECONDS * sampleRate);
  const analysis = new FrameAnalysis(frame, sampleRate);
  const gate = loudness ** 2 * 10 ** (GATE_DB / 10);
  const dominance = 10 ** (MIN_DOMINANCE_DB / 10);
  for (let start = 0; start + frame <= sources[0].length; start += hop) {
    const frames = sources.map((source) => source.subarray(start, start + frame));
    // Most frames of a pause are far below the gate. Their spectra are not computed.
    const bound = frames.map((samples) => samples.reduce((sum, sample) => sum + sample * sample, 0));
    if (Math.max(...bound) / analysis.windowPower <= gate) continue;
    const spectra = frames.map((samples) => analysis.spectrum(samples));
    const powers = spectra.map((spectrum) => analysis.power(spectrum));
    for (let c = 0; c < sources.length; c++) {
      const others = powers.filter((_, other) => other !== c);
      if (powers[c] <= gate || (others.length && powers[c] <= Math.max(...others) * dominance)) continue;
      sums[c][0] += 1;
      const { pitch, periodicity } = analysis.pitch(spectra[c]);
      if (periodicity <= MIN_PERIODICITY) continue;
      sums[c][1] += 1;
      sums[c][2] += Math.log(pitch);
      analysis.cepstra(spectra[c]).forEach((value, k) => (sums[c][3 + k] += value));
    }
  }
  return sums;
}

/**
 * Log-odds in nats that two talkers are the same speaker: positive where they sound alike.
 *
 * @param {Float64Array[]} voices sums from `voiceSums`.
 * @param {Float64Array[]} others sums from `voiceSums`.
 * @returns {number[][]} one row per voice.
 */
export function voiceLogOdds(voices, others) {
  return voices.map((a) =>
    others.map((b) => {
      const framesA = Math.max(a[1], 1e-9);
      const framesB = Math.max(b[1], 1e-9);
      let total = 0;
      WITHIN_SPEAKER.forEach((within, k) => {
        const difference = a[2 + k] / framesA - b[2 + k] / framesB;
        const same = within * (1 / framesA + 1 / framesB + 2 / ENOUGH_FRAMES);
        const different = same + 2 * BETWEEN_SPEAKERS[k];
        total += 0.5 * Math.log(different / same) - 0.5 * difference ** 2 * (1 / same - 1 / different);
      });
      const typical = Math.log1p(-ATYPICAL) + TEMPERATURE * total;
      const atypical = Math.log(ATYPICAL);
      const larger = Math.max(typical, atypical);
      return larger + Math.log1p(Math.exp(Math.min(typical, atypical) - larger));
    }),
  );
}

/** Computes the spectrum of a frame, and its power, pitch and cepstra from the spectrum. */
class FrameAnalysis {
  constructor(frame, sampleRate) {
    this.sampleRate = sampleRate;
    this.size = nextFastLength(2 * frame);
    this.half = Math.floor(this.size / 2);
    this.window = Float64Array.from({ length: frame }, (_, n) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (n + 1)) / (frame + 1)));
    this.windowPower = this.window.reduce((sum, value) => sum + value * value, 0);
    this.re = new Float64Array(this.size);
    this.im = new Float64Array(this.size);
    this.lags = [];
    const last = Math.ceil(sampleRate / LOWEST_PITCH);
    for (let lag = Math.floor(sampleRate / HIGHEST_PITCH); lag <= last; lag++) this.lags.push(lag);
    // The window tapers the autocorrelation. These factors undo this, so that a periodic frame has 1 at its period.
    this.tapers = this.lags.map((lag) => {
      let sum = 0;
      for (let n = 0; n + lag < frame; n++) sum += this.window[n] * this.window[n + lag];
      return this.windowPower / sum;
    });
    this.bands = melBands(this.size, sampleRate);
  }

  /** The power spectrum of a frame, with all `size` bins. */
  spectrum(samples) {
    this.re.fill(0);
    this.im.fill(0);
    for (let n = 0; n < samples.length; n++) this.re[n] = samples[n] * this.window[n];
    fft(this.re, this.im);
    return Float64Array.from(this.re, (value, k) => value * value + this.im[k] ** 2);
  }

  power(spectrum) {
    return spectrum.reduce((sum, value) => sum + value, 0) / this.size / this.windowPower;
  }

  /** The pitch in Hz, and the normalised autocorrelation there (1 for a periodic frame). */
  pitch(spectrum) {
    this.re.set(spectrum);
    this.im.fill(0);
    fft(this.re, this.im); // the spectrum is even, so this is the inverse transform times the size
    const power = Math.max(this.re[0] / this.size, TINY);
    let best = { pitch: 0, periodicity: 0, score: -Infinity };
    this.lags.forEach((lag, i) => {
      const periodicity = (this.re[lag] / this.size / power) * this.tapers[i];
      const score = periodicity - OCTAVE_COST * Math.log2(lag);
      if (score > best.score) best = { pitch: this.sampleRate / lag, periodicity, score };
    });
    return best;
  }

  /** The cepstra c1, c2, ... of the mel bands. */
  cepstra(spectrum) {
    const bands = this.bands.map(({ first, weights }) => weights.reduce((sum, w, i) => sum + w * spectrum[first + i], 0));
    const floor = (1e-4 * bands.reduce((sum, value) => sum + value, 0)) / NUM_BANDS + TINY;
    const logs = bands.map((value) => Math.log(value + floor));
    return Array.from({ length: NUM_CEPSTRA }, (_, k) => {
      const sum = logs.reduce((s, value, n) => s + value * Math.cos((Math.PI * (k + 1) * (2 * n + 1)) / (2 * NUM_BANDS)), 0);
      return sum * Math.sqrt(2 / NUM_BANDS);
    });
  }
}

/** Overlapping triangular bands of equal width in mel. Each has its first bin, and the weights of the bins from there. */
function melBands(size, sampleRate) {
  const mel = (hertz) => 2595 * Math.log10(1 + hertz / 700);
  const [lowest, highest] = BANDS_HZ.map(mel);
  const width = (highest - lowest) / (NUM_BANDS + 1);
  return Array.from({ length: NUM_BANDS }, (_, band) => {
    const weights = [];
    let first = 0;
    for (let k = 0; k <= Math.floor(size / 2); k++) {
      const position = (mel((k * sampleRate) / size) - lowest) / width - band;
      const weight = Math.min(position, 2 - position);
      if (weight <= 0) continue;
      if (!weights.length) first = k;
      weights.push(weight);
    }
    return { first, weights };
  });
}
