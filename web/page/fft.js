// Discrete Fourier transforms of any length; lengths with small prime factors are fast.

const plans = new Map();

/** The smallest number that is at least `n` (1 or more) and has only the prime factors 2, 3 and 5. */
export function nextFastLength(n) {
  for (let size = n; ; size++) {
    let rest = size;
    for (const prime of [2, 3, 5]) while (rest % prime === 0) rest /= prime;
    if (rest === 1) return size;
  }
}

function planOf(size) {
  if (!plans.has(size)) {
    const cosines = new Float64Array(size);
    const sines = new Float64Array(size);
    for (let i = 0; i < size; i++) {
      cosines[i] = Math.cos((2 * Math.PI * i) / size);
      sines[i] = -Math.sin((2 * Math.PI * i) / size);
    }
    const factors = [];
    let rest = size;
    for (let prime = 2; rest > 1; prime++) {
      while (rest % prime === 0) {
        factors.push(prime);
        rest /= prime;
      }
    }
    const scratch = [new Float64Array(size), new Float64Array(size)];
    plans.set(size, { size, cosines, sines, factors, scratch });
  }
  return plans.get(size);
}

/**
 * The forward transform, in place (Stockham's algorithm, one pass per prime factor).
 *
 * @param {Float64Array} re real parts.
 * @param {Float64Array} im imaginary parts.
 */
export function fft(re, im) {
  const { size, cosines, sines, factors, scratch } = planOf(re.length);
  let [fromRe, fromIm, toRe, toIm] = [re, im, ...scratch];
  let done = 1; // length of the transforms that are finished
  for (const radix of factors) {
    const left = (size / (done * radix)) | 0;
    for (let k = 0; k < done; k++) {
      for (let q = 0; q < radix; q++) {
        const output = ((k + q * done) * left) | 0;
        const angle = output % size;
        for (let j = 0; j < left; j++) {
          let index = (k * left * radix + j) | 0;
          let sumRe = fromRe[index];
          let sumIm = fromIm[index];
          for (let p = 1, turn = angle; p < radix; p++) {
            index += left;
            const c = cosines[turn];
            const s = sines[turn];
            sumRe += fromRe[index] * c - fromIm[index] * s;
            sumIm += fromRe[index] * s + fromIm[index] * c;
            turn += angle;
            if (turn >= size) turn -= size;
          }
          toRe[output + j] = sumRe;
          toIm[output + j] = sumIm;
        }
      }
    }
    [fromRe, fromIm, toRe, toIm] = [toRe, toIm, fromRe, fromIm];
    done *= radix;
  }
  if (fromRe !== re) {
    re.set(fromRe);
    im.set(fromIm);
  }
}

/** The power spectrum of a real signal, padded with zeros to `size`: `size / 2 + 1` values. */
export function powerSpectrum(signal, size) {
  const [re, im] = [new Float64Array(size), new Float64Array(size)];
  re.set(signal);
  fft(re, im);
  const power = new Float64Array(Math.floor(size / 2) + 1);
  for (let k = 0; k < power.length; k++) power[k] = re[k] ** 2 + im[k] ** 2;
  return power;
}
