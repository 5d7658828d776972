// Keeps each speaker in one output over a long recording.
// The counterpart of separation/tying.py of the Python package.

import { bestOrder } from "./assignment.js";
import { voiceLogOdds, voiceSums } from "./voices.js";

const FRAME_SECONDS = 0.02;
const GATE_DB = -40;
const MIN_OVERLAP_SECONDS = 0.1;
const OVERLAP_LOG_ODDS = 20;
const ENOUGH_SECONDS = 0.05;
const DECIDED = 2;
const MIN_FRAMES = 10;
const MAX_SWEEPS = 20;

const identity = (n) => [...Array(n).keys()];
/** `inverse(order)[order[i]] = i`. */
const inverse = (order) => identity(order.length).sort((a, b) => order[a] - order[b]);
const same = (a, b) => a.every((value, i) => value === b[i]);

/**
 * Ties the speakers of a recording across windows.
 *
 * Consecutive windows whose overlap decides the order are joined into a run. The order of a run is chosen by the
 * similarity of its voices to those of all other runs, and by the speakers that its overlaps with its neighbours identify.
 */
export class SpeakerTies {
  /**
   * @param {number} numSources number of outputs of a window.
   * @param {number} sampleRate in Hz.
   * @param {number} loudness RMS of the loud parts of the whole mixture, at the level of the network's input.
   */
  constructor(numSources, sampleRate, loudness) {
    Object.assign(this, { numSources, sampleRate, loudness, overlaps: [], voices: [], previous: null });
  }

  /**
   * Adds the outputs of the next window.
   *
   * @param {Float32Array[]} sources outputs of the window, in any order.
   * @param {number} start first sample of the window in the recording; later than that of the previous window.
   */
  add(sources, start) {
    const length = sources[0].length;
    let heard = 0;
    if (this.previous) {
      const before = this.previous;
      heard = Math.min(Math.max(before.start + before.sources[0].length - start, 0), length);
      const shift = start - before.start;
      this.overlaps.push(
        this.overlapLogOdds(
          before.sources.map((source) => source.subarray(shift, shift + heard)),
          sources.map((source) => source.subarray(0, heard)),
        ),
      );
    }
    // The samples of the overlap were added with the previous window.
    const rest = sources.map((source) => source.subarray(heard));
    this.voices.push(voiceSums(rest, this.sampleRate, this.loudness));
    this.previous = { sources, start };
  }

  /**
   * Finds the order of every window's outputs; needs at least one window.
   *
   * @returns {{orders: number[][], ties: {margin: number, evidence: string}[]}} `orders[w][j]` is the output of window w
   *   with speaker j; one tie for each window after the first.
   */
  solve() {
    const { runs, ties } = join(this.voices, this.overlaps);
    const comparison = new RunComparison(runs, this.overlaps);
    comparison.settle();
    let before = comparison.margin(0);
    for (let r = 1; r < runs.length; r++) {
      const after = comparison.margin(r);
      if (after < DECIDED || after === Infinity) comparison.keep(r);
      if (after < Infinity) {
        // The previous run may be the uncertain one.
        const margin = Math.min(before, after);
        ties[runs[r].start] = margin >= DECIDED ? { margin, evidence: "voice" } : { margin: 0, evidence: "none" };
        before = after;
      }
    }
    const orders = runs.flatMap((run, r) => run.orders.map((window) => comparison.orders[r].map((output) => window[output])));
    return { orders, ties: ties.slice(1) };
  }

  /** Log-odds that an output of a window (row) and one of the next (column) are the same speaker, from their overlap. */
  overlapLogOdds(before, after) {
    const products = before.map(() => after.map(() => 0));
    const frame = Math.round(FRAME_SECONDS * this.sampleRate);
    const numFrames = Math.floor(before[0].length / frame);
    if (numFrames * FRAME_SECONDS < MIN_OVERLAP_SECONDS) return products;
    const power = (sources, start) => {
      let sum = 0;
      for (const source of sources) for (let i = start; i < start + frame; i++) sum += source[i] * source[i];
      return sum / frame;
    };
    const gate = this.loudness ** 2 * 10 ** (GATE_DB / 10);
    let [loud, powerBefore, powerAfter] = [0, 0, 0];
    for (let start = 0; start < numFrames * frame; start += frame) {
      const [one, other] = [power(before, start), power(after, start)];
      if (Math.min(one, other) <= gate) continue;
      loud += 1;
      powerBefore += one;
      powerAfter += other;
      before.forEach((p, row) =>
        after.forEach((q, column) => {
          let sum = 0;
          for (let i = start; i < start + frame; i++) sum += p[i] * q[i];
          products[row][column] += sum;
        }),
      );
    }
    if (loud * FRAME_SECONDS < MIN_OVERLAP_SECONDS) return before.map(() => after.map(() => 0));
    const energy = frame * Math.sqrt(powerBefore * powerAfter);
    const enough = ((frame * ENOUGH_SECONDS) / FRAME_SECONDS) * this.loudness ** 2;
    return products.map((row) => row.map((product) => (OVERLAP_LOG_ODDS * product) / (energy + enough)));
  }
}

const addUp = (sums) => sums[0].map((_, k) => sums.reduce((total, sum) => total + sum[k], 0));

/** Joins windows into runs where the overlap alone decides the order of all outputs. */
function join(voices, overlaps) {
  const numSources = voices[0].length;
  const orders = [identity(numSources)];
  const ties = voices.map(() => ({ margin: 0, evidence: "unneeded" }));
  const starts = [0];
  overlaps.forEach((overlap, i) => {
    const { order, margin } = bestOrder(orders[i].map((output) => overlap[output]));
    orders.push(order);
    if (margin < DECIDED) starts.push(i + 1);
    else if (margin < Infinity) ties[i + 1] = { margin, evidence: "overlap" };
  });
  const runs = starts.map((start, r) => {
    const end = starts[r + 1] ?? voices.length;
    const inOrder = voices.slice(start, end).map((sums, i) => orders[start + i].map((output) => sums[output]));
    return {
      start,
      orders: orders.slice(start, end),
      voices: identity(numSources).map((c) => addUp(inOrder.map((sums) => sums[c]))),
    };
  });
  return { runs, ties };
}

/** Finds the order of each run by comparing it with all other runs. */
class RunComparison {
  constructor(runs, overlaps) {
    this.runs = runs;
    this.overlaps = runs.slice(1).map((right, r) => {
      const overlap = overlaps[right.start - 1];
      return runs[r].orders.at(-1).map((row) => right.orders[0].map((column) => overlap[row][column]));
    });
    this.placed = runs.map(() => false);
    this.orders = runs.map((run) => identity(run.voices.length));
  }

  /** Orders the runs, those with most speech first, until no order changes. The first run keeps its order. */
  settle() {
    const speech = this.runs.map((run) => run.voices.reduce((sum, voice) => sum + voice[0], 0));
    for (const r of identity(this.runs.length).sort((a, b) => speech[b] - speech[a])) {
      this.orders[r] = bestOrder(...this.evidence(r)).order;
      this.placed[r] = true;
    }
    for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
      const before = this.orders.slice();
      for (let r = 0; r < this.runs.length; r++) this.orders[r] = bestOrder(...this.evidence(r)).order;
      if (this.orders.every((order, r) => same(order, before[r]))) break;
    }
    const first = inverse(this.orders[0]);
    this.orders = this.orders.map((order) => first.map((c) => order[c]));
  }

  margin(r) {
    return bestOrder(...this.evidence(r)).margin;
  }

  /** Keeps a run's outputs in the order of the previous run, unless there is strong evidence against it. */
  keep(r) {
    const last = this.runs[r - 1].orders.at(-1);
    const came = this.orders[r - 1].map((output) => last[output]);
    const position = inverse(this.runs[r].orders[0]);
    const [scores, known, talking] = this.evidence(r);
    came.forEach((output, c) => (scores[c][position[output]] += DECIDED / 2));
    this.orders[r] = bestOrder(scores, known, talking).order;
  }

  /** The arguments of `bestOrder` for a run: the speakers of all other runs against the outputs of this run. */
  evidence(r) {
    const outputs = this.runs[r].voices;
    const n = outputs.length;
    const others = identity(this.runs.length).filter((other) => this.placed[other] && other !== r);
    const speakers = identity(n).map((c) =>
      others.reduce((sum, other) => addUp([sum, this.runs[other].voices[this.orders[other][c]]]), outputs[0].map(() => 0)),
    );
    const overlap = identity(n).map(() => Array(n).fill(0));
    const count = (term) => overlap.forEach((row, c) => row.forEach((_, p) => (row[p] += term(c, p))));
    if (others.includes(r - 1)) count((c, p) => this.overlaps[r - 1][this.orders[r - 1][c]][p]);
    if (others.includes(r + 1)) count((c, p) => this.overlaps[r][p][this.orders[r + 1][c]]);
    const known = speakers.map((voice, c) => voice[0] >= MIN_FRAMES || Math.max(...overlap[c]) >= DECIDED);
    const talking = outputs.map(
      (voice, p) => voice[0] >= MIN_FRAMES || Math.max(...overlap.map((row) => row[p])) >= DECIDED,
    );
    const odds = voiceLogOdds(speakers, outputs);
    return [odds.map((row, c) => row.map((value, p) => value + overlap[c][p])), known, talking];
  }
}
