// The worker: loads the model, separates recordings, and returns their sources. It requests only the page's files.

import * as ort from "./runtime/ort.wasm.min.mjs";
import { BLOCK, Mixture } from "./levels.js";
import { Cancelled, Separation } from "./separation.js";
import { Spectrograms } from "./spectrogram.js";
import { WavReader } from "./wav.js";

const MAX_THREADS = 8;

let model = null;
let session = null;
let current = null; // the last separation, which `read` and `file` use
let newest = 0; // number of the latest request to separate; 0 after a cancellation

const post = (message, transfer = []) => self.postMessage(message, transfer);
/** Lets the worker receive messages, such as a cancellation; a pass of the network on one thread blocks them. */
const breathe = () => new Promise((resolve) => setTimeout(resolve));

async function fetched(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} cannot be loaded (status ${response.status}).`);
  return response;
}

async function load() {
  ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS) : 1;
  ort.env.logLevel = "error";
  model = await (await fetched("./model.json")).json();
  const graph = await (await fetched("./model.onnx")).arrayBuffer();
  session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  return { model, threads: ort.env.wasm.numThreads };
}

const loaded = load();

async function network(samples) {
  const { sources } = await session.run({ mixture: new ort.Tensor("float32", samples, [1, samples.length]) });
  const outputs = Array.from({ length: model.numSources }, (_, c) =>
    sources.data.slice(c * samples.length, (c + 1) * samples.length),
  );
  sources.dispose();
  return outputs;
}

/** Opens a WAV file, or samples that the page has decoded, as blocks. */
async function openRecording({ file, samples, rate, subtype }) {
  if (samples) {
    const blocks = async function* () {
      for (let start = 0; start < samples.length; start += BLOCK) yield samples.subarray(start, start + BLOCK);
    };
    return { rate, subtype, warning: null, blocks: blocks() };
  }
  const reader = await WavReader.open(file);
  return { rate: reader.rate, subtype: reader.subtype, warning: reader.warning, blocks: reader.blocks() };
}

async function separate(request) {
  newest = request.id;
  current = null;
  const check = async () => {
    await breathe();
    if (newest !== request.id) throw new Cancelled();
  };
  await loaded;
  const recording = await openRecording(request);
  const checked = async function* () {
    for await (const block of recording.blocks) {
      if (block.some((sample) => !Number.isFinite(sample))) throw new Error("The recording contains NaN or infinity.");
      await check();
      yield block;
    }
  };
  post({ type: "stage", id: request.id, text: "Reading the recording" });
  const mixture = await Mixture.from(checked(), recording.rate, model.sampleRate);
  request.samples = recording.blocks = null; // so that decoded samples do not stay in memory
  if (!mixture.duration) throw new Error("The recording has no samples.");
  const separation = new Separation(mixture, model, recording.subtype);
  post({ type: "stage", id: request.id, text: "Separating" });
  const started = performance.now();
  await separation.run(network, async (done, total) => {
    const left = ((performance.now() - started) / done) * (total - done);
    post({ type: "progress", id: request.id, fraction: done / total, secondsLeft: left / 1000 });
    await check();
  });
  const spectrograms = await measure(separation, check);
  current = separation;
  post({
    type: "separated",
    id: request.id,
    rate: mixture.rate,
    modelRate: mixture.modelRate,
    length: separation.length,
    duration: mixture.duration / mixture.rate,
    seconds: (performance.now() - started) / 1000,
    numSources: model.numSources,
    boundaries: separation.boundaries,
    orders: separation.orders,
    warnings: [...(recording.warning ? [recording.warning] : []), ...separation.warnings()],
    columns: spectrograms.columns,
    rows: spectrograms.rows,
    pictures: spectrograms.pictures(),
  });
}

/** Adds all sources to the statistics; returns the spectrograms of the mixture and of the sources. */
async function measure(separation, check) {
  const { mixture, length, numSources } = separation;
  const spectrograms = new Spectrograms(numSources + 1, length, mixture.modelRate);
  for await (const [start, sources] of separation.blocks()) {
    separation.statistics.add(sources);
    const stop = start + sources[0].length;
    spectrograms.add([mixture.samples.subarray(start, stop), ...sources], stop === length);
    await check();
  }
  return spectrograms;
}

function separated() {
  if (!current) throw new Error("There is no separated recording.");
  return current;
}

const actions = {
  separate,
  cancel() {
    newest = 0;
  },
  /** Sends a part of the mixture and of the sources, at the model's rate. */
  async read({ id, start, stop }) {
    const separation = separated();
    const sources = await separation.read(start, stop);
    const signals = [separation.mixture.samples.slice(start, stop), ...sources];
    post({ type: "part", id, start, signals }, signals.map((signal) => signal.buffer));
  },
  /** Sends a source as a WAV file. */
  async file({ id, speaker }) {
    post({ type: "file", id, speaker, file: await separated().file(speaker) });
  },
};

self.onmessage = async ({ data }) => {
  try {
    await actions[data.type](data);
  } catch (error) {
    if (error instanceof Cancelled) post({ type: "cancelled", id: data.id });
    else post({ type: "failed", id: data.id, text: describe(error) });
  }
};

function describe(error) {
  if (error instanceof RangeError) return "The recording is too long for the memory of this browser.";
  return error.message || String(error);
}

loaded.then(
  (state) => post({ type: "ready", ...state }),
  (error) => post({ type: "unusable", text: describe(error) }),
);
