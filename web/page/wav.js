// Reads WAV files of any length in blocks, and writes WAV files.

const READ_FRAMES = 2 ** 18;
const MAX_CHUNKS = 1000; // before the samples; a damaged file may have millions of empty ones

/** A WAV file with linear PCM or floating-point samples, read in blocks. */
export class WavReader {
  /**
   * Opens a file.
   *
   * @param {Blob} file
   * @returns {Promise<WavReader | null>} null if it is not such a WAV file.
   */
  static async open(file) {
    const head = new DataView(await file.slice(0, 12).arrayBuffer());
    if (head.byteLength < 12 || tag(head, 0) !== "RIFF" || tag(head, 8) !== "WAVE") return null;
    let format = null;
    for (let position = 12, chunks = 0; position + 8 <= file.size && chunks < MAX_CHUNKS; chunks++) {
      const chunk = new DataView(await file.slice(position, position + 48).arrayBuffer());
      const size = chunk.getUint32(4, true);
      if (tag(chunk, 0) === "fmt " && chunk.byteLength >= 24) format = readFormat(chunk);
      if (tag(chunk, 0) === "data") return format && new WavReader(file, format, position + 8, size);
      position += 8 + size + (size % 2);
    }
    return null;
  }

  constructor(file, format, begin, declared) {
    const { channels, bytes, bits, float } = format;
    const present = file.size - begin;
    // Writers that do not know the size write 0 or the largest number.
    const known = declared > 0 && declared < 0xffffffff - 1;
    Object.assign(this, { file, begin, channels, bytes, float, rate: format.rate });
    this.frames = Math.floor(Math.min(known ? declared : present, present) / (channels * bytes));
    this.warning = known && declared > present ? "the file seems to be cut short" : null;
    /** The sample format that preserves the recording's bit depth. */
    this.subtype = float || bits > 24 ? "FLOAT" : bits > 16 ? "PCM_24" : "PCM_16";
  }

  /** Yields the recording, mixed down to mono, block by block. */
  async *blocks() {
    const frame = this.channels * this.bytes;
    for (let first = 0; first < this.frames; first += READ_FRAMES) {
      const count = Math.min(READ_FRAMES, this.frames - first);
      const from = this.begin + first * frame;
      const view = new DataView(await this.file.slice(from, from + count * frame).arrayBuffer());
      const sample = sampleReader(view, this.bytes, this.float);
      const block = new Float32Array(count);
      for (let i = 0; i < count; i++) {
        let sum = 0;
        for (let channel = 0; channel < this.channels; channel++) sum += sample((i * this.channels + channel) * this.bytes);
        block[i] = sum / this.channels;
      }
      yield block;
    }
  }
}

function tag(view, position) {
  return String.fromCharCode(...[0, 1, 2, 3].map((i) => view.getUint8(position + i)));
}

/** The content of a `fmt ` chunk; null if the samples are not linear PCM or floating point. */
function readFormat(chunk) {
  let code = chunk.getUint16(8, true);
  const channels = chunk.getUint16(10, true);
  const rate = chunk.getUint32(12, true);
  const bits = chunk.getUint16(22, true);
  const bytes = Math.ceil(bits / 8);
  if (code === 0xfffe && chunk.byteLength >= 34) code = chunk.getUint16(32, true);
  const float = code === 3;
  const linear = (code === 1 && bytes >= 1 && bytes <= 4) || (float && (bytes === 4 || bytes === 8));
  return linear && channels > 0 && rate > 0 ? { channels, rate, bits, bytes, float } : null;
}

function sampleReader(view, bytes, float) {
  if (float) return bytes === 4 ? (at) => view.getFloat32(at, true) : (at) => view.getFloat64(at, true);
  if (bytes === 1) return (at) => (view.getUint8(at) - 128) / 128;
  if (bytes === 2) return (at) => view.getInt16(at, true) / 2 ** 15;
  if (bytes === 3) return (at) => (view.getUint8(at) + view.getInt16(at + 1, true) * 256) / 2 ** 23;
  return (at) => view.getInt32(at, true) / 2 ** 31;
}

/**
 * A mono WAV file.
 *
 * @param {BlobPart[]} parts samples that `encodeSamples` encoded.
 * @param {number} length length of all parts together, in samples.
 * @param {number} rate sample rate in Hz.
 * @param {string} subtype PCM_16, PCM_24 or FLOAT.
 * @returns {Blob}
 */
export function wavFile(parts, length, rate, subtype) {
  const bytes = { PCM_16: 2, PCM_24: 3, FLOAT: 4 }[subtype];
  const header = new DataView(new ArrayBuffer(44));
  const text = (at, characters) => [...characters].forEach((c, i) => header.setUint8(at + i, c.charCodeAt(0)));
  const padding = (length * bytes) % 2;
  text(0, "RIFF");
  header.setUint32(4, 36 + length * bytes + padding, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, subtype === "FLOAT" ? 3 : 1, true);
  header.setUint16(22, 1, true);
  header.setUint32(24, rate, true);
  header.setUint32(28, rate * bytes, true);
  header.setUint16(32, bytes, true);
  header.setUint16(34, 8 * bytes, true);
  text(36, "data");
  header.setUint32(40, length * bytes, true);
  return new Blob([header, ...parts, new Uint8Array(padding)], { type: "audio/wav" });
}

/** Encodes samples within +-1 as bytes of a WAV file. */
export function encodeSamples(samples, subtype) {
  if (subtype === "FLOAT") return new Uint8Array(Float32Array.from(samples).buffer);
  const bytes = subtype === "PCM_16" ? 2 : 3;
  const full = 2 ** (8 * bytes - 1);
  const encoded = new Uint8Array(samples.length * bytes);
  samples.forEach((sample, i) => {
    const value = Math.max(-full, Math.min(full - 1, Math.round(sample * full)));
    for (let b = 0; b < bytes; b++) encoded[i * bytes + b] = (value >> (8 * b)) & 255;
  });
  return encoded;
}
