// Resampling in blocks with a linear-phase filter, without delay.

// Band edges as fractions of the lower Nyquist frequency, close to soxr's "very high quality", which the command uses.
const PASS_BAND = 0.916;
const STOP_BAND = 0.995;
const STOP_DB = 150;

/** The number of samples after resampling; halves are rounded up. */
export function resampledLength(length, from, to) {
  return Math.floor((2 * length * to + from) / (2 * from));
}

function gcd(a, b) {
  return b ? gcd(b, a % b) : a;
}

/** The modified Bessel function of order 0. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-14 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

/**
 * Designs one filter per phase, `taps` coefficients each, stored one after the other.
 *
 * @param {number} up number of phases.
 * @param {number} ratio lower Nyquist frequency as a fraction of that of the input.
 */
function designFilters(up, ratio) {
  const width = Math.PI * (STOP_BAND - PASS_BAND) * ratio;
  const half = Math.ceil((STOP_DB - 7.95) / (2.285 * width) / 2) + 1;
  const taps = 2 * half;
  const cutoff = ((STOP_BAND + PASS_BAND) / 2) * ratio;
  const beta = 0.1102 * (STOP_DB - 8.7);
  // A Kaiser window, which is smooth and can be interpolated from a table.
  const steps = 4096;
  const window = Float64Array.from({ length: steps + 2 }, (_, i) => bessel(beta * Math.sqrt(Math.max(1 - (i / steps) ** 2, 0))));
  const filters = new Float32Array(up * taps);
  for (let phase = 0; phase < up; phase++) {
    for (let k = 0; k < taps; k++) {
      const t = phase / up + half - 1 - k;
      const place = Math.min(Math.abs(t) / half, 1) * steps;
      const left = Math.floor(place);
      const weight = (window[left] + (window[left + 1] - window[left]) * (place - left)) / window[0];
      const angle = Math.PI * cutoff * t;
      filters[phase * taps + k] = cutoff * weight * (angle === 0 ? 1 : Math.sin(angle) / angle);
    }
  }
  return { filters, taps, half };
}

/** Resamples a signal that arrives in blocks. Concatenated, the results have `resampledLength` samples. */
export class Resampler {
  /**
   * @param {number} from sample rate of the blocks, a whole number of Hz.
   * @param {number} to sample rate of the results, a whole number of Hz.
   */
  constructor(from, to) {
    const common = gcd(from, to);
    Object.assign(this, { from, to, up: to / common, down: from / common, read: 0, written: 0 });
    if (from === to) return;
    Object.assign(this, designFilters(this.up, Math.min(1, to / from)));
    // The input that later results need. Its first sample is sample `begin` of the signal.
    this.begin = -this.half + 1;
    this.kept = new Float32Array(this.half - 1);
  }

  /** Adds a block; returns the results that need no later input. */
  push(block) {
    this.read += block.length;
    if (this.from === this.to) return block;
    const joined = new Float32Array(this.kept.length + block.length);
    joined.set(this.kept);
    joined.set(block, this.kept.length);
    this.kept = joined;
    // The last input of result n is number floor(n * down / up) + half.
    const available = this.begin + joined.length - this.half;
    return this.results(Math.max(Math.ceil((available * this.up) / this.down), 0));
  }

  /** Returns the remaining results after the last block. */
  finish() {
    if (this.from === this.to) return new Float32Array(0);
    const length = resampledLength(this.read, this.from, this.to);
    const joined = new Float32Array(this.kept.length + 2 * this.half);
    joined.set(this.kept);
    this.kept = joined;
    return this.results(length);
  }

  /** Computes the results from the first one not yet returned to before number `stop`. */
  results(stop) {
    const output = new Float32Array(Math.max(stop - this.written, 0));
    const { filters, taps, kept, up, down, half } = this;
    for (let i = 0; i < output.length; i++) {
      const position = (this.written + i) * down;
      const phase = position % up;
      // 32-bit integers make the loop several times as fast.
      const first = ((position - phase) / up - half + 1 - this.begin) | 0;
      const filter = (phase * taps) | 0;
      let sum = 0;
      for (let k = 0; k < taps; k += 2) {
        sum += filters[filter + k] * kept[first + k] + filters[filter + k + 1] * kept[first + k + 1];
      }
      output[i] = sum;
    }
    this.written += output.length;
    const needed = Math.floor((this.written * down) / up) - half + 1;
    if (needed > this.begin) {
      this.kept = kept.slice(needed - this.begin);
      this.begin = needed;
    }
    return output;
  }
}
