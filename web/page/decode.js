// Decodes recordings in all formats that the browser supports, at their own sample rate.

const DEFAULT_RATE = 48000;
// Every OfflineAudioContext supports sample rates in this range. Recordings outside it are resampled by the browser.
const RATES = [8000, 96000];
const MP3_RATES = [44100, 48000, 32000];
const AAC_RATES = [96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350];
const AUDIO_ENTRIES = ["mp4a", "Opus", "fLaC", "alac", "ac-3", "ec-3"];

/**
 * Decodes a file.
 *
 * @param {File | Blob} file
 * @param {string} name the file's name, for messages.
 * @returns {Promise<{samples: Float32Array, rate: number, subtype: string}>} the recording, mixed down to mono, and
 *   the sample format for its sources.
 */
export async function decode(file, name) {
  let bytes;
  try {
    bytes = await file.arrayBuffer();
  } catch {
    throw new Error(`${name} cannot be read. It may have been moved, be a folder, or be too large for this browser.`);
  }
  if (!bytes.byteLength) throw new Error(`${name} is empty.`);
  const { rate, subtype } = inspect(new Uint8Array(bytes));
  const context = new OfflineAudioContext(1, 1, Math.min(Math.max(rate, RATES[0]), RATES[1]));
  let audio;
  try {
    audio = await context.decodeAudioData(bytes);
  } catch {
    throw new Error(
      `This browser cannot decode ${name}: it is not audio, is damaged, or has a format that the browser does not ` +
        "support. If it is a recording, convert it to WAV, FLAC or MP3.",
    );
  }
  if (!audio.length) throw new Error(`${name} has no samples.`);
  return { samples: mixDown(audio), rate: audio.sampleRate, subtype };
}

function mixDown(audio) {
  const samples = audio.getChannelData(0);
  if (audio.numberOfChannels === 1) return samples.slice();
  const mixed = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    const data = audio.getChannelData(channel);
    for (let i = 0; i < mixed.length; i++) mixed[i] += data[i] / audio.numberOfChannels;
  }
  return mixed;
}

/** The sample rate in a file's header, and the sample format that preserves its bit depth. */
export function inspect(bytes) {
  const found = { rate: DEFAULT_RATE, subtype: "PCM_16" };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (text(bytes, 0, 4) === "fLaC") Object.assign(found, flacFormat(bytes, 8));
    else if (text(bytes, 0, 4) === "OggS") Object.assign(found, oggFormat(bytes, view));
    else if (text(bytes, 4, 8) === "ftyp") found.rate = mp4Rate(bytes, view) ?? found.rate;
    else if (view.getUint32(0) === 0x1a45dfa3) found.rate = webmRate(bytes, view) ?? found.rate;
    else if (text(bytes, 0, 4) === "RIFF") found.rate = view.getUint32(indexOf(bytes, "fmt ") + 12, true);
    else found.rate = mpegRate(bytes) ?? found.rate;
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // a file that ends within its header
  }
  if (!(found.rate > 0)) found.rate = DEFAULT_RATE;
  return found;
}

function text(bytes, from, to) {
  return String.fromCharCode(...bytes.subarray(from, to));
}

function indexOf(bytes, words, limit = 2 ** 16) {
  const codes = [...words].map((c) => c.charCodeAt(0));
  for (let i = bytes.indexOf(codes[0]); i >= 0 && i <= limit; i = bytes.indexOf(codes[0], i + 1)) {
    if (codes.every((code, k) => bytes[i + k] === code)) return i;
  }
  return -1;
}

/** The rate and sample format in the first block of a FLAC stream; its content begins at byte `at`. */
function flacFormat(bytes, at) {
  const rate = (bytes[at + 10] << 12) | (bytes[at + 11] << 4) | (bytes[at + 12] >> 4);
  const bits = (((bytes[at + 12] & 1) << 4) | (bytes[at + 13] >> 4)) + 1;
  return { rate, subtype: bits > 16 ? "PCM_24" : "PCM_16" };
}

function oggFormat(bytes, view) {
  const vorbis = indexOf(bytes, "\x01vorbis", 4096);
  if (vorbis >= 0) return { rate: view.getUint32(vorbis + 12, true) };
  const flac = indexOf(bytes, "fLaC", 4096);
  return flac >= 0 ? flacFormat(bytes, flac + 8) : {}; // Opus is decoded at 48 kHz
}

/** The rate of the first audio track in an MP4 file. The whole file is searched: the index may be at its end. */
function mp4Rate(bytes, view) {
  for (let at = 0; at < bytes.length; ) {
    const found = indexOf(bytes.subarray(at), "stsd", Infinity);
    if (found < 0) return null;
    at += found + 4;
    if (!AUDIO_ENTRIES.includes(text(bytes, at + 12, at + 16))) continue;
    const rate = view.getUint16(at + 40); // has no room for rates above 65,535 Hz
    return AAC_RATES.includes(rate) ? rate : null;
  }
  return null;
}

/** The value of the first SamplingFrequency element (0xB5) in a WebM file. */
function webmRate(bytes, view) {
  for (let i = 0; i < Math.min(bytes.length - 10, 2 ** 16); i++) {
    if (bytes[i] !== 0xb5 || (bytes[i + 1] !== 0x84 && bytes[i + 1] !== 0x88)) continue;
    const rate = bytes[i + 1] === 0x84 ? view.getFloat32(i + 2) : view.getFloat64(i + 2);
    if (Number.isInteger(rate) && rate >= 4000 && rate <= 384000) return rate;
  }
  return null;
}

/** The rate in the first frame of an MP3 or AAC stream. */
function mpegRate(bytes) {
  let at = 0;
  if (text(bytes, 0, 3) === "ID3") at = 10 + ((bytes[6] << 21) | (bytes[7] << 14) | (bytes[8] << 7) | bytes[9]);
  for (const end = Math.min(bytes.length - 4, at + 2 ** 16); at < end; at++) {
    if (bytes[at] !== 0xff || (bytes[at + 1] & 0xe0) !== 0xe0) continue;
    const version = (bytes[at + 1] >> 3) & 3; // 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    const layer = (bytes[at + 1] >> 1) & 3;
    if (layer === 0 && (bytes[at + 1] & 0xf0) === 0xf0) return AAC_RATES[(bytes[at + 2] >> 2) & 15] ?? null;
    const index = (bytes[at + 2] >> 2) & 3;
    if (version === 1 || layer === 0 || index === 3) continue;
    return MP3_RATES[index] / { 3: 1, 2: 2, 0: 4 }[version];
  }
  return null;
}
