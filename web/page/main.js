// The page: opens or records audio, sends it to the worker for separation, and shows and plays the result.

import { decode } from "./decode.js";
import { Player } from "./player.js";
import { Recorder } from "./record.js";
import { Tracks } from "./tracks.js";
import { WavReader } from "./wav.js";

const LONGEST_SECONDS = 3900; // an hour, with some tolerance

const element = (id) => document.getElementById(id);
const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });

let number = 0; // number of the latest request to the worker
let job = 0; // number of the separation in progress; 0 if there is none
let name = "recording"; // file name of the sources, without number and suffix
let player = null;
let tracks = null;
let recorder = null;
const answers = new Map(); // by the number of the request: `resolve` and `reject` of its promise

/** Sends a request to the worker; resolves with the answer. */
function ask(message, id = ++number) {
  return new Promise((resolve, reject) => {
    answers.set(id, { resolve, reject });
    worker.postMessage({ ...message, id }, message.samples ? [message.samples.buffer] : []);
  });
}

function say(text) {
  element("status").textContent = text;
}

function complain(text) {
  element("error").textContent = text;
}

function clock(seconds) {
  const [minutes, rest] = [Math.floor(seconds / 60), Math.floor(seconds % 60)];
  return `${minutes}:${String(rest).padStart(2, "0")}`;
}

function remaining(seconds) {
  if (seconds < 1) return "";
  if (seconds < 60) return `, about ${Math.ceil(seconds)} s left`;
  return `, about ${Math.round(seconds / 60)} min left`;
}

const messages = {
  ready({ model, threads }) {
    const level = threads > 1 ? `${threads} threads` : "one thread";
    element("about").textContent = `Model: ${model.name}, ${model.numSources} speakers, ${model.sampleRate} Hz, ${level}.`;
    document.body.dataset.threads = threads;
    if (!job) say("Ready.");
    keepForOfflineUse();
  },
  unusable({ text }) {
    say("");
    complain(`The model cannot be loaded: ${text} Reload the page to try again.`);
  },
  stage({ id, text }) {
    if (id === job) say(text);
  },
  progress({ id, fraction, secondsLeft }) {
    if (id !== job) return;
    element("progress").value = fraction;
    // Not in the status, because screen readers would read every change aloud.
    element("figures").textContent = `${Math.round(100 * fraction)} %${remaining(secondsLeft)}`;
    element("progress").setAttribute("aria-valuetext", element("figures").textContent);
  },
};

worker.onmessage = ({ data }) => {
  if (messages[data.type]) return messages[data.type](data);
  const answer = answers.get(data.id);
  answers.delete(data.id);
  if (data.type === "failed") answer?.reject(new Error(data.text));
  else answer?.resolve(data);
};
worker.onerror = ({ message }) => {
  const error = new Error(`The separation stopped: ${message ?? "the browser ran out of memory"}.`);
  complain(error.message);
  for (const { reject } of answers.values()) reject(error);
  answers.clear();
};

/** Separates a file, or a recording from the microphone. */
async function separate(file, title) {
  const id = (job = ++number);
  name = title.replace(/\.[^.]*$/, "") || "recording";
  complain("");
  delete document.body.dataset.result;
  element("result").hidden = true;
  element("work").hidden = false;
  element("progress").removeAttribute("value");
  element("progress").removeAttribute("aria-valuetext");
  element("figures").textContent = "";
  say(`Reading ${title}`);
  await player?.close();
  player = null;
  try {
    const request = await prepare(file, title);
    if (id !== job) return;
    const result = await ask({ type: "separate", ...request }, id);
    if (id !== job || result.type === "cancelled") return;
    show(result);
  } catch (error) {
    if (id !== job) return;
    say("");
    complain(error.message);
  }
  job = 0;
  element("work").hidden = true;
}

async function prepare(file, title) {
  const wav = await WavReader.open(file).catch(() => null);
  const decoded = wav ? null : await decode(file, title);
  const seconds = wav ? wav.frames / wav.rate : decoded.samples.length / decoded.rate;
  if (seconds > LONGEST_SECONDS) {
    throw new Error(`${title} is ${clock(seconds)} long; this page takes recordings of up to an hour. Cut it first.`);
  }
  return wav ? { file } : decoded;
}

function cancel() {
  if (!job) return;
  job = 0;
  worker.postMessage({ type: "cancel" });
  element("work").hidden = true;
  say("Cancelled.");
  element("file").focus();
}

function show(result) {
  const { rate, modelRate, length, duration, seconds, warnings } = result;
  player = new Player({
    rate: modelRate,
    length,
    count: result.pictures.length,
    read: async (start, stop) => (await ask({ type: "read", start, stop })).signals,
    onchange: refresh,
    onerror: (error) => complain(error.message),
  });
  tracks = new Tracks(element("tracks"), result, {
    audible: (track, audible) => player.setAudible(track, audible),
    seek: (fraction) => player.seek(fraction * player.duration),
    download,
  });
  element("warnings").replaceChildren(...warnings.map((line) => item("li", line)));
  showBoundaries(result.boundaries);
  element("position").max = player.duration;
  element("result").hidden = false;
  refresh();
  say(`Separated ${clock(duration)} at ${rate} Hz in ${clock(Math.max(seconds, 1))}.`);
  const { pictures: _, ...figures } = result;
  document.body.dataset.result = JSON.stringify(figures);
  element("play").focus();
}

function item(kind, text) {
  const created = document.createElement(kind);
  created.textContent = text;
  return created;
}

function showBoundaries(boundaries) {
  element("boundaries").hidden = !boundaries.length;
  const rows = boundaries.map(({ time, evidence, margin }) => {
    const row = document.createElement("tr");
    row.append(item("td", clock(time)), item("td", evidence), item("td", margin ? margin.toFixed(1) : ""));
    return row;
  });
  element("boundaries").querySelector("tbody").replaceChildren(...rows);
}

/** Updates the play button and the position; repeats this for every frame while the recording is playing. */
function refresh() {
  if (!player) return;
  element("play").textContent = player.playing ? "Pause" : "Play";
  element("position").value = player.time;
  element("position").setAttribute("aria-valuetext", `${clock(player.time)} of ${clock(player.duration)}`);
  element("time").textContent = `${clock(player.time)} / ${clock(player.duration)}`;
  tracks.moveCursor(player.time / player.duration);
  if (player.playing) requestAnimationFrame(refresh);
}

async function download(speaker) {
  complain("");
  say(`Writing ${name}_s${speaker + 1}.wav`);
  try {
    const { file } = await ask({ type: "file", speaker });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(file);
    link.download = `${name}_s${speaker + 1}.wav`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    say(`Wrote ${link.download}.`);
  } catch (error) {
    complain(error.message);
  }
}

async function toggleRecording() {
  complain("");
  try {
    if (recorder) {
      const stopped = recorder;
      recorder = null;
      showRecording(false);
      await separate(await stopped.stop(), "microphone");
    } else {
      recorder = await Recorder.start();
      showRecording(true);
    }
  } catch (error) {
    recorder = null;
    showRecording(false);
    complain(error.message);
  }
}

function showRecording(on) {
  element("record").textContent = on ? "Stop and separate" : "Record";
  element("record").setAttribute("aria-pressed", on);
  if (!on) return;
  const tick = () => {
    if (!recorder) return;
    element("record").textContent = `Stop and separate (${clock(recorder.seconds)})`;
    setTimeout(tick, 500);
  };
  say("Recording.");
  tick();
}

function listen() {
  element("file").onchange = ({ target }) => {
    const [file] = target.files;
    target.value = ""; // so that the same file can be chosen again
    if (file) separate(file, file.name);
  };
  element("record").onclick = toggleRecording;
  element("cancel").onclick = cancel;
  element("play").onclick = () => (player.playing ? player.pause() : player.play());
  element("position").oninput = ({ target }) => player?.seek(Number(target.value));
  const drop = element("drop");
  document.ondragover = (event) => {
    event.preventDefault();
    drop.classList.add("over");
  };
  document.ondragleave = () => drop.classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) separate(file, file.name);
  };
  document.onkeydown = (event) => {
    if (event.key === "Escape") cancel();
    const typing = event.target.closest("button, input, summary, a");
    if (event.key !== " " || !player || typing) return;
    event.preventDefault();
    element("play").click();
  };
}

/** Registers the service worker. All files are in the browser's own cache by then, so none is downloaded twice. */
function keepForOfflineUse() {
  if (!navigator.serviceWorker || !window.isSecureContext) return;
  navigator.serviceWorker.register("sw.js").catch(() => {}); // without it, the page still works online
}

listen();
