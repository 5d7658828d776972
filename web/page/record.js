// Records from the microphone.

/** A recording in progress. */
export class Recorder {
  /** Asks for access to the microphone and starts recording. */
  static async start() {
    if (!navigator.mediaDevices?.getUserMedia || typeof MediaRecorder === "undefined") {
      throw new Error("This browser does not allow recording here. Recording needs https or localhost.");
    }
    // The browser's own processing could remove one of the speakers.
    const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      const refused = error.name === "NotAllowedError";
      throw new Error(refused ? "The browser was not allowed to use the microphone." : "No microphone was found.");
    }
    try {
      return new Recorder(stream);
    } catch (error) {
      release(stream);
      throw new Error(`This browser cannot record: ${error.message}`);
    }
  }

  constructor(stream) {
    this.stream = stream;
    this.parts = [];
    this.recorder = new MediaRecorder(stream);
    this.recorder.ondataavailable = (event) => this.parts.push(event.data);
    this.recorder.start(1000);
    this.started = performance.now();
  }

  get seconds() {
    return (performance.now() - this.started) / 1000;
  }

  /** Stops; returns the recording as an encoded file. */
  async stop() {
    const stopped = new Promise((resolve) => (this.recorder.onstop = resolve));
    this.recorder.stop();
    await stopped;
    release(this.stream);
    return new Blob(this.parts, { type: this.recorder.mimeType });
  }
}

/** Turns the microphone off. */
function release(stream) {
  stream.getTracks().forEach((track) => track.stop());
}
