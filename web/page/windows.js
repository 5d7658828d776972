// Windows over a long recording: separation/segments.py of the Python package.

/**
 * First samples of the windows that cover a recording: one every `hop`; the last ends where the recording ends.
 *
 * @param {number} length of the recording, in samples; at least `window`.
 */
export function windowStarts(length, window, hop) {
  const starts = [];
  for (let start = 0; start < length - window; start += hop) starts.push(start);
  return [...starts, length - window];
}

/** Weights that rise from 0 to 1 along a squared sine; 1 minus them is their mirror image. */
export function fadeIn(length) {
  return Float32Array.from({ length }, (_, n) => Math.sin((Math.PI / 2) * ((n + 0.5) / length)) ** 2);
}

/**
 * The weights with which a window enters the joined recording.
 *
 * @param {number[]} starts of all windows.
 * @param {number} number of the window.
 * @returns {{begin: number, end: number, weight: (sample: number) => number}} the samples of the recording that it
 *   contributes to, and its weight there.
 */
export function windowWeights(starts, number, window, hop) {
  const rise = fadeIn(window - hop);
  const first = number === 0;
  const last = number === starts.length - 1;
  // The fade from the previous window begins `hop` samples after that window's start.
  const begin = first ? starts[0] : starts[number - 1] + hop;
  const fall = last ? Infinity : starts[number] + hop;
  const weight = (sample) => {
    if (sample >= fall) return 1 - rise[sample - fall];
    return first || sample - begin >= rise.length ? 1 : rise[sample - begin];
  };
  return { begin, end: starts[number] + window, weight };
}
