// A volume and its labels in NiiVue, which is loaded when the first volume is shown.

import { colour } from "./colours.js";

const SCRIPT = "/page/vendor/niivue/niivue.umd.js";
const VIEWS = { axial: 0, coronal: 1, sagittal: 2, all: 3, render: 4 };
const AXES = { axial: 2, coronal: 1, sagittal: 0 };
const LABELS = 1002; // what NIfTI calls an image of labels
// Of the image in 3D, so that the labels inside it are seen.
const THROUGH = 0.16;
const INSIDE = 0.02;
const UNCERTAIN = 0.7;
const CLEAR_BELOW = 1; // what the viewer calls transparent below the least value

const OPTIONS = {
  dragAndDropEnabled: false, isRadiologicalConvention: true, logLevel: "error",
  backColor: [0, 0, 0, 1], fontColor: [0.75, 0.8, 0.85, 1], crosshairColor: [0.35, 0.85, 0.85, 0.75],
  crosshairWidth: 0.4, crosshairWidthUnit: "percent", show3Dcrosshair: false,
  multiplanarLayout: 2, // a grid of two by two, the last one in 3D
  viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "", loadingText: "",
};

let script = null;

function loaded() {
  script ??= new Promise((resolve, reject) => {
    const element = document.createElement("script");
    element.src = SCRIPT;
    element.addEventListener("load", () => resolve(window.niivue));
    element.addEventListener("error", () => reject(new Error(SCRIPT)));
    document.head.append(element);
  });
  return script;
}

export class VolumeView {
  #canvas;
  #moved;
  #starting = null;
  #niivue = null;
  #labels = [];
  #hidden = new Set();
  #opacity = 0.55;
  #outline = false;
  #uncertainty = null;
  #view = "all";

  /** @param {() => void} moved is told when another slice is shown. */
  constructor(canvas, moved) {
    this.#canvas = canvas;
    this.#moved = moved;
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  static get possible() {
    return document.createElement("canvas").getContext("webgl2") !== null;
  }

  /** Load what is needed to draw, before there is anything to draw. */
  prepare() {
    return this.#start();
  }

  /** Show an image alone. */
  async image(content, name) {
    const [viewer, { NVImage }] = await this.#start();
    const image = await read(NVImage, content, name, { colormap: "gray" });
    this.#atOnce(viewer, () => {
      this.#clear(viewer);
      viewer.opts.multiplanarShowRender = 0; // there is little to see of it in 3D yet, and it costs most
      viewer.addVolume(image);
      this.view = this.#view;
    });
    this.#moved();
  }

  /**
   * Show a label map over the image, or alone where there is none.
   * @param {{value: number, name: string}[]} labels in the order of their colours.
   */
  async labels(content, name, labels) {
    const [viewer, { NVImage }] = await this.#start();
    this.#labels = labels;
    this.#hidden.clear();
    const map = await read(NVImage, content, name, { opacity: this.#opacity });
    map.hdr.intent_code = LABELS; // outlines are drawn of such volumes alone
    map.setColormapLabel(this.#table());
    const ground = await NVImage.zerosLike(map, "uint8");
    [ground.cal_min, ground.cal_max] = [0, 1];
    this.#atOnce(viewer, () => {
      while (viewer.volumes.length > 1) viewer.removeVolume(viewer.volumes[1]);
      this.#uncertainty = null;
      viewer.opts.multiplanarShowRender = 1;
      if (viewer.volumes.length === 0) viewer.addVolume(ground);
      viewer.addVolume(map);
      this.#blend();
      this.view = this.#view;
      this.centre();
    });
  }

  /** Have a map of uncertainty at hand, which `uncertain` shows. */
  async uncertainty(content, name) {
    const [, { NVImage }] = await this.#start();
    const map = await read(NVImage, content, name, { colormap: "inferno", opacity: UNCERTAIN });
    map.cal_min = map.cal_max / 10;
    map.colormapType = CLEAR_BELOW;
    this.#uncertainty = map;
  }

  set uncertain(on) {
    const viewer = this.#niivue;
    if (this.#uncertainty === null) return;
    this.#atOnce(viewer, () => {
      if (on) viewer.addVolume(this.#uncertainty);
      else if (viewer.volumes.includes(this.#uncertainty)) viewer.removeVolume(this.#uncertainty);
    });
  }

  forgetImage() {
    if (this.#niivue !== null) this.#clear(this.#niivue);
  }

  get hasLabels() {
    return (this.#niivue?.volumes.length ?? 0) > 1;
  }

  /** @param {string} view a key of VIEWS. */
  set view(view) {
    this.#view = view;
    if (this.#niivue === null) return;
    this.#niivue.opts.sliceType = VIEWS[view];
    if (this.#niivue.volumes.length) this.#niivue.setOpacity(0, view === "render" ? THROUGH : 1);
    else this.#niivue.drawScene();
  }

  set opacity(share) {
    if (share === this.#opacity) return;
    this.#opacity = share;
    this.#blend();
  }

  set outline(on) {
    this.#outline = on;
    this.#blend();
  }

  /** Show or hide one label. */
  toggle(value, on) {
    if (on) this.#hidden.delete(value);
    else this.#hidden.add(value);
    if (!this.hasLabels) return;
    this.#niivue.volumes[1].setColormapLabel(this.#table());
    this.#niivue.updateGLVolume();
  }

  /** The slice of the view, from 1, and how many there are; null where the view has no single one. */
  get slice() {
    const axis = AXES[this.#view];
    const count = this.#niivue?.volumes[0]?.dimsRAS?.[axis + 1];
    if (axis === undefined || count === undefined) return null;
    const place = Math.round(this.#niivue.scene.crosshairPos[axis] * count - 0.5);
    return { slice: Math.min(Math.max(place, 0), count - 1) + 1, count };
  }

  set slice(number) {
    const now = this.slice;
    if (now === null) return;
    this.#niivue.scene.crosshairPos[AXES[this.#view]] = (number - 0.5) / now.count;
    this.#niivue.drawScene();
  }

  /** Go to the middle of all labels. */
  centre() {
    if (!this.hasLabels) return;
    const place = middle(this.#niivue.volumes[1]);
    if (place === null) return;
    this.#niivue.scene.crosshairPos = this.#niivue.mm2frac(place);
    this.#niivue.drawScene();
    this.#moved();
  }

  /** As an outline, borders have the opacity and what is inside of them next to none. */
  #blend() {
    if (!this.hasLabels) return;
    this.#niivue.opts.atlasOutline = this.#outline ? this.#opacity : 0;
    this.#niivue.setOpacity(1, this.#outline ? INSIDE : this.#opacity);
  }

  /** The viewer and its library; whoever asks first waits until it is ready, as all others do. */
  #start() {
    this.#starting ??= (async () => {
      const library = await loaded();
      const viewer = new library.Niivue(OPTIONS);
      viewer.onLocationChange = () => this.#moved();
      await viewer.attachToCanvas(this.#canvas);
      this.#niivue = viewer;
      return [viewer, library];
    })();
    return this.#starting;
  }

  #clear(viewer) {
    while (viewer.volumes.length) viewer.removeVolume(viewer.volumes[0]);
  }

  /** Make several changes and draw once: in 3D that takes a processor without a GPU a second. */
  #atOnce(viewer, change) {
    viewer.drawScene = () => {};
    try {
      change();
    } finally {
      delete viewer.drawScene;
    }
    viewer.drawScene();
  }

  #table() {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (const [index, { value, name }] of this.#labels.entries()) {
      const [red, green, blue] = colour(index);
      table.R.push(red);
      table.G.push(green);
      table.B.push(blue);
      table.A.push(this.#hidden.has(value) ? 0 : 255);
      table.I.push(value);
      table.labels.push(name);
    }
    return table;
  }

  #key(event) {
    const steps = {
      ArrowLeft: [1, 0, 0], ArrowRight: [-1, 0, 0], ArrowUp: [0, 0, 1], ArrowDown: [0, 0, -1],
      PageUp: [0, 1, 0], PageDown: [0, -1, 0],
    };
    if (this.#view === "axial") Object.assign(steps, swapped(1, 2));
    if (this.#view === "sagittal") Object.assign(steps, swapped(0, 1));
    const step = steps[event.key];
    if (step === undefined || !this.#niivue?.volumes.length) return;
    event.preventDefault();
    this.#niivue.moveCrosshairInVox(...step);
    this.#moved();

    function swapped(one, other) {
      return Object.fromEntries(
        Object.entries(steps).map(([key, move]) => {
          const turned = [...move];
          [turned[one], turned[other]] = [move[other], move[one]];
          return [key, turned];
        }),
      );
    }
  }
}

function read(NVImage, content, name, options) {
  return NVImage.loadFromFile({ file: new File([content], name), name, ...options });
}

/** The mean place of all voxels with a label, in mm; null if there is none. */
function middle(map) {
  const [, width, height] = map.hdr.dims;
  const sum = [0, 0, 0];
  let count = 0;
  for (let place = 0; place < map.img.length; place += 1) {
    if (map.img[place] === 0) continue;
    const row = Math.floor(place / width);
    sum[0] += place - row * width;
    sum[1] += row % height;
    sum[2] += Math.floor(row / height);
    count += 1;
  }
  if (count === 0) return null;
  const voxel = [...sum.map((value) => value / count), 1];
  return map.hdr.affine.slice(0, 3).map((row) => row.reduce((total, factor, axis) => total + factor * voxel[axis], 0));
}
