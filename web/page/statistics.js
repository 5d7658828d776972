// Peak, power and correlation of separated sources, and warnings.
// The counterpart of separation/levels.py of the Python package.

const NEAR_SILENT_DB = -30;
const DUPLICATE_CORRELATION = 0.95;

/** Statistics of sources, accumulated block by block. */
export class SourceStatistics {
  constructor(numSources) {
    this.peaks = Array(numSources).fill(0);
    this.count = 0;
    this.products = this.peaks.map(() => Array(numSources).fill(0));
  }

  /** Adds the next block of the sources. */
  add(sources) {
    this.count += sources[0].length;
    sources.forEach((one, row) => {
      for (const sample of one) this.peaks[row] = Math.max(this.peaks[row], Math.abs(sample));
      for (let column = 0; column <= row; column++) {
        const other = sources[column];
        let sum = 0;
        for (let i = 0; i < one.length; i++) sum += one[i] * other[i];
        this.products[row][column] += sum;
      }
    });
  }

  /** One line for each source that is nearly silent, and for each pair of nearly identical sources. */
  warnings() {
    const rms = this.peaks.map((_, c) => Math.sqrt(this.products[c][c] / Math.max(this.count, 1)));
    const loudest = Math.max(...rms);
    if (loudest === 0) return [];
    const lines = [];
    const nearSilent = rms.map((value) => value <= loudest * 10 ** (NEAR_SILENT_DB / 20));
    rms.forEach((value, c) => {
      const below = value ? `${(20 * Math.log10(loudest / value)).toFixed(0)} dB below the loudest` : "silent";
      if (nearSilent[c]) lines.push(`source ${c + 1} is ${below}: fewer speakers than sources?`);
    });
    rms.forEach((value, row) => {
      for (let column = 0; column < row; column++) {
        if (nearSilent[row] || nearSilent[column]) continue;
        const correlation = Math.abs(this.products[row][column]) / (value * rms[column] * this.count);
        if (correlation > DUPLICATE_CORRELATION) {
          lines.push(`sources ${column + 1} and ${row + 1} are nearly identical: fewer speakers than sources?`);
        }
      }
    });
    return lines;
  }
}
