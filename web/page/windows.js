// Windows over a long recording. The counterpart of separation/segments.py of the Python package.

/**
 * First samples of the windows that cover a recording: one every `hop`; the last ends where the recording ends.
 *
 * @param {number} length length of the recording in samples, at least `window`.
 * @param {number} window length of a window in samples.
 * @param {number} hop distance between the starts of consecutive windows in samples.
 */
export function windowStarts(length, window, hop) {
  const starts = [];
  for (let start = 0; start < length - window; start += hop) starts.push(start);
  return [...starts, length - window];
}

/** Weights that rise from 0 to 1 along a squared sine. Reversed, they are 1 minus the weights. */
export function fadeIn(length) {
  return Float32Array.from({ length }, (_, n) => Math.sin((Math.PI / 2) * ((n + 0.5) / length)) ** 2);
}

/** Joins windows by cross-fades whose weights sum to one at every sample. */
export class Crossfade {
  /**
   * @param {number[]} starts first samples of all windows, from `windowStarts`.
   * @param {number} window length of a window in samples.
   * @param {number} hop distance between the starts of consecutive windows in samples.
   */
  constructor(starts, window, hop) {
    Object.assign(this, { starts, window, hop, rise: fadeIn(window - hop) });
  }

  /**
   * The samples of the recording to which a window contributes: from `begin` to before `end`.
   *
   * @param {number} number index of the window.
   */
  span(number) {
    // The fade from the previous window begins `hop` samples after that window's start.
    const begin = number === 0 ? this.starts[0] : this.starts[number - 1] + this.hop;
    return { begin, end: this.starts[number] + this.window };
  }

  /** The weights of a window from sample `from` to before `to` of the recording, within its span. */
  weights(number, from, to) {
    const { begin } = this.span(number);
    const fall = number === this.starts.length - 1 ? Infinity : this.starts[number] + this.hop;
    return Float32Array.from({ length: to - from }, (_, i) => {
      const sample = from + i;
      if (sample >= fall) return 1 - this.rise[sample - fall];
      return number === 0 || sample - begin >= this.rise.length ? 1 : this.rise[sample - begin];
    });
  }
}
