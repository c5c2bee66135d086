// A picture and its labels on a canvas.

import { colour } from "./colours.js";

const SMALLEST = 256; // pixels of the canvas; smaller pictures are shown in whole multiples
const ZOOMS = [1, 1.5, 2, 3, 4, 6];

export class FlatView {
  #canvas;
  #picture = null;
  #map = null;
  #labels = [];
  #hidden = new Set();
  #opacity = 0.55;
  #outline = false;
  #zoom = 0;

  constructor(canvas) {
    this.#canvas = canvas;
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  get hasLabels() {
    return this.#map !== null;
  }

  /** Show a picture alone; whether the browser can. */
  async image(content, type) {
    this.#map = null;
    try {
      this.#picture = await createImageBitmap(new Blob([content], { type }));
    } catch {
      this.#picture = null;
      return false;
    }
    this.#draw();
    return true;
  }

  /** Show a label map, a PNG of 8 bit whose grey values are the labels. */
  async labels(content, labels) {
    const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
    const picture = await createImageBitmap(new Blob([content], { type: "image/png" }), options);
    const context = sheet(picture).getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    this.#map = context.getImageData(0, 0, picture.width, picture.height);
    this.#labels = labels;
    this.#hidden.clear();
    this.#draw();
  }

  forgetImage() {
    this.#picture = null;
  }

  set opacity(share) {
    this.#opacity = share;
    this.#draw();
  }

  set outline(on) {
    this.#outline = on;
    this.#draw();
  }

  toggle(value, on) {
    if (on) this.#hidden.delete(value);
    else this.#hidden.add(value);
    this.#draw();
  }

  #draw() {
    const under = this.#picture ?? this.#map;
    if (under === null) return;
    const fold = Math.max(1, Math.ceil(SMALLEST / Math.max(under.width, under.height)));
    Object.assign(this.#canvas, { width: under.width * fold, height: under.height * fold });
    const context = this.#canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
    const whole = [0, 0, this.#canvas.width, this.#canvas.height];
    if (this.#picture) context.drawImage(this.#picture, ...whole);
    if (this.#map) {
      context.globalAlpha = this.#opacity;
      context.drawImage(this.#overlay(), ...whole);
      context.globalAlpha = 1;
    }
  }

  #overlay() {
    const { data, width, height } = this.#map;
    const picture = new ImageData(width, height);
    const colours = new Map(this.#labels.map(({ value }, index) => [value, colour(index)]));
    for (const value of this.#hidden) colours.delete(value);
    for (let place = 0; place < data.length; place += 4) {
      const found = colours.get(data[place]);
      if (found === undefined || (this.#outline && !this.#isBorder(place, data, width))) continue;
      picture.data.set([...found, 255], place);
    }
    const canvas = sheet(picture);
    canvas.getContext("2d").putImageData(picture, 0, 0);
    return canvas;
  }

  #isBorder(place, data, width) {
    return [-4, 4, -4 * width, 4 * width].some((step) => data[place + step] !== data[place]);
  }

  #key(event) {
    const change = { "+": 1, "=": 1, "-": -1 }[event.key];
    if (change === undefined) return;
    event.preventDefault();
    this.#zoom = Math.min(Math.max(this.#zoom + change, 0), ZOOMS.length - 1);
    this.#canvas.style.setProperty("--zoom", ZOOMS[this.#zoom]);
  }
}

function sheet({ width, height }) {
  return Object.assign(document.createElement("canvas"), { width, height });
}
