// Runs the page's modules on the signals that a test has written into a folder: node compare.mjs FOLDER
// The folder's request.json has the input; the answers go to answers.json and to files of float32 beside it.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { bestOrder } from "../page/assignment.js";
import { inspect } from "../page/decode.js";
import { inputGain, loudness, Mixture } from "../page/levels.js";
import { Resampler } from "../page/resample.js";
import { Separation } from "../page/separation.js";
import { SpeakerTies } from "../page/tying.js";
import { encodeSamples, WavReader, wavFile } from "../page/wav.js";

const folder = process.argv[2];
const { cases } = JSON.parse(readFileSync(join(folder, "request.json"), "utf8"));

const read = (name) => new Float32Array(new Uint8Array(readFileSync(join(folder, name))).buffer);
const write = (name, signal) => writeFileSync(join(folder, name), signal);

async function* blocksOf(signal, size) {
  for (let start = 0; start < signal.length; start += size) yield signal.subarray(start, start + size);
}

/** The rows of a signal of shape (rows, t), stored one after the other. */
function rowsOf(signal, rows) {
  const length = signal.length / rows;
  return Array.from({ length: rows }, (_, row) => signal.subarray(row * length, (row + 1) * length));
}

async function collect(blocks) {
  const parts = [];
  for await (const block of blocks) parts.push(...block);
  return Float32Array.from(parts);
}

const actions = {
  assign: ({ scores, known, talking }) => {
    const { order, margin } = bestOrder(scores, known ?? undefined, talking ?? undefined);
    return { order, margin: margin === Infinity ? "infinity" : margin };
  },

  resample: ({ input, output, from, to, block }) => {
    const resampler = new Resampler(from, to);
    const signal = read(input);
    const parts = [];
    for (let start = 0; start < signal.length; start += block) parts.push(...resampler.push(signal.subarray(start, start + block)));
    parts.push(...resampler.finish());
    write(output, Float32Array.from(parts));
    return {};
  },

  tie: ({ inputs, starts, numSources, rate, loudness: level }) => {
    const ties = new SpeakerTies(numSources, rate, level);
    inputs.forEach((input, i) => ties.add(rowsOf(read(input), numSources), starts[i]));
    return ties.solve();
  },

  mixture: async ({ input, output, rate, modelRate, levelDb }) => {
    const mixture = await Mixture.from(blocksOf(read(input), 2 ** 18), rate, modelRate);
    write(output, mixture.samples);
    return { rms: mixture.rms, loudness: mixture.loudness, gain: inputGain(mixture.loudness, levelDb), offset: mixture.offset };
  },

  inspect: ({ input }) => inspect(new Uint8Array(readFileSync(join(folder, input)))),

  loudness: ({ input }) => loudness(read(input)),

  /** A network that returns the true sources, window by window, in the given orders. */
  separate: async ({ input, sources, orders, numSources, rate, modelRate, output }) => {
    const mixture = await Mixture.from(blocksOf(read(input), 2 ** 18), rate, modelRate);
    const separation = new Separation(mixture, { numSources, inputLevelDb: null, minSamples: 16 });
    const truth = rowsOf(read(sources), numSources);
    let number = 0;
    await separation.run(async (window) => {
      const start = separation.starts[number];
      return orders[number++].map((source) => truth[source].slice(start, start + window.length));
    });
    for await (const [, block] of separation.blocks()) separation.statistics.add(block);
    for (let speaker = 0; speaker < numSources; speaker++) {
      const file = await separation.file(speaker);
      writeFileSync(join(folder, `${output}${speaker + 1}.wav`), new Uint8Array(await file.arrayBuffer()));
    }
    return { orders: separation.orders, boundaries: separation.boundaries, warnings: separation.warnings() };
  },

  wav: async ({ input, output }) => {
    const reader = await WavReader.open(new Blob([readFileSync(join(folder, input))]));
    if (!reader) return null;
    const samples = await collect(reader.blocks());
    write(output, samples);
    const file = wavFile([encodeSamples(samples, reader.subtype)], samples.length, reader.rate, reader.subtype);
    writeFileSync(join(folder, `${output}.wav`), new Uint8Array(await file.arrayBuffer()));
    const { rate, subtype, frames, warning } = reader;
    return { rate, subtype, frames, warning };
  },
};

const answers = [];
for (const { action, ...options } of cases) answers.push((await actions[action](options)) ?? null);
writeFileSync(join(folder, "answers.json"), JSON.stringify(answers));
