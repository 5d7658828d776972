// The tracks of a separated recording: names, buttons, spectrograms and a moving cursor.

/** 256 colours, from black through violet and orange to pale yellow. */
function palette() {
  const stops = [
    [0, 0, 4],
    [60, 15, 110],
    [140, 41, 129],
    [222, 73, 104],
    [254, 159, 109],
    [252, 253, 191],
  ];
  return Array.from({ length: 256 }, (_, i) => {
    const place = (i / 255) * (stops.length - 1);
    const left = Math.min(Math.floor(place), stops.length - 2);
    return stops[left].map((value, c) => Math.round(value + (stops[left + 1][c] - value) * (place - left)));
  });
}

const COLOURS = palette();

function canvasOf(picture, columns, rows) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  picture.forEach((value, i) => image.data.set([...COLOURS[value], 255], 4 * i));
  context.putImageData(image, 0, 0);
  return canvas;
}

function button(label, name, action) {
  const element = document.createElement("button");
  element.type = "button";
  element.textContent = label;
  element.setAttribute("aria-label", `${label}: ${name}`);
  element.onclick = action;
  return element;
}

/** The tracks, in the order mixture, source 1, source 2, ... */
export class Tracks {
  /**
   * @param {HTMLElement} container
   * @param {object} result the worker's message of the type "separated".
   * @param {object} actions `audible(track, isAudible)`, `seek(fraction)`, `download(speaker)`.
   */
  constructor(container, result, actions) {
    this.actions = actions;
    this.tracks = result.pictures.map((picture, index) => this.track(picture, index, result));
    container.replaceChildren(...this.tracks.map((track) => track.element));
    // At first, only the mixture is audible.
    this.tracks.forEach((track, index) => (track.muted = index > 0));
    this.update();
  }

  track(picture, index, { columns, rows }) {
    const name = index ? `Speaker ${index}` : "Mixture";
    const track = { name, muted: false, solo: false };
    track.element = document.createElement("section");
    track.element.className = "track";
    track.element.setAttribute("aria-label", name);
    const title = document.createElement("h2");
    title.textContent = name;
    const controls = document.createElement("div");
    controls.className = "controls";
    track.mute = button("Mute", name, () => this.toggle(track, "muted"));
    track.soloButton = button("Solo", name, () => this.toggle(track, "solo"));
    controls.append(title, track.mute, track.soloButton);
    if (index) controls.append(button("Download WAV", name, () => this.actions.download(index - 1)));
    const frame = document.createElement("div");
    frame.className = "picture";
    const canvas = canvasOf(picture, columns, rows);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Spectrogram: ${name}`);
    track.cursor = document.createElement("div");
    track.cursor.className = "cursor";
    frame.append(canvas, track.cursor);
    frame.onclick = (event) => this.actions.seek(event.offsetX / frame.clientWidth);
    track.element.append(controls, frame);
    return track;
  }

  toggle(track, what) {
    track[what] = !track[what];
    if (what === "solo" && track.solo) this.tracks.forEach((other) => (other.solo = other === track));
    this.update();
  }

  update() {
    const anySolo = this.tracks.some((track) => track.solo);
    this.tracks.forEach((track, index) => {
      const audible = anySolo ? track.solo : !track.muted;
      track.mute.setAttribute("aria-pressed", track.muted);
      track.soloButton.setAttribute("aria-pressed", track.solo);
      track.element.classList.toggle("silent", !audible);
      this.actions.audible(index, audible);
    });
  }

  moveCursor(fraction) {
    for (const track of this.tracks) track.cursor.style.left = `${100 * fraction}%`;
  }
}
