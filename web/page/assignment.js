// The best one-to-one assignment of outputs to speakers, and its margin.
// The counterpart of separation/assignment.py of the Python package.

/** All orders of 0..n-1, the identity first. */
export function permutations(n) {
  if (n === 0) return [[]];
  const orders = [];
  const extend = (order, left) => {
    if (!left.length) orders.push(order);
    left.forEach((value, i) => extend([...order, value], [...left.slice(0, i), ...left.slice(i + 1)]));
  };
  extend([], [...Array(n).keys()]);
  return orders;
}

const sumOf = (scores, order) => order.reduce((sum, output, speaker) => sum + scores[speaker][output], 0);

/**
 * Finds the order that maximises the sum of `scores[speaker][order[speaker]]`.
 *
 * @param {number[][]} scores how well a speaker (row) matches an output (column).
 * @param {boolean[]} [known] which speakers have been heard; the others are interchangeable.
 * @param {boolean[]} [talking] which outputs contain a voice; the others are interchangeable.
 * @returns {{order: number[], margin: number}} the order, and its margin over the best order that sounds different;
 *   Infinity if no order sounds different.
 */
export function bestOrder(scores, known, talking) {
  const n = scores.length;
  const orders = permutations(n);
  const sums = orders.map((order) => sumOf(scores, order));
  const best = sums.indexOf(Math.max(...sums));
  const order = orders[best];
  let second = -Infinity;
  for (let speaker = 0; speaker < n; speaker++) {
    const output = order[speaker];
    const isKnown = !known || known[speaker];
    const isTalking = !talking || talking[output];
    if (!isKnown && !isTalking) continue;
    // Forbid this pair, and all pairs of interchangeable speakers and outputs that would sound the same.
    const speakerAlike = (s) => (isKnown ? s === speaker : !known[s]);
    const outputAlike = (o) => (isTalking ? o === output : !talking[o]);
    orders.forEach((other, i) => {
      if (!other.some((o, s) => speakerAlike(s) && outputAlike(o))) second = Math.max(second, sums[i]);
    });
  }
  return { order, margin: sums[best] - second };
}
