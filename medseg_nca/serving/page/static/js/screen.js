// Where images are looked at: the volume or the picture, and the tools above them.

import { $, show } from "./dom.js";
import { FlatView } from "./flat.js";
import { number, t } from "./texts.js";
import { VolumeView } from "./volume.js";

const VOLUMES = /\.(nii|nii\.gz|nrrd|mha)$/i;
const PICTURES = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", bmp: "image/bmp" };

export class Screen {
  #volume = new VolumeView($("volume"), () => this.#sync());
  #flat = new FlatView($("flat"));
  #isFlat = false;

  constructor() {
    for (const radio of document.querySelectorAll("input[name=view]"))
      radio.addEventListener("change", () => {
        this.#volume.view = radio.value;
        this.#sync();
      });
    $("slice").addEventListener("input", () => {
      this.#volume.slice = Number($("slice").value);
      this.#sync();
    });
    $("opacity").addEventListener("input", () => this.#opacity());
    $("outline").addEventListener("change", () => {
      this.#both((view) => (view.outline = $("outline").checked));
    });
    $("uncertain").addEventListener("change", () => (this.#volume.uncertain = $("uncertain").checked));
    $("centre").addEventListener("click", () => this.#volume.centre());
    $("full").addEventListener("click", () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else $("viewer").requestFullscreen();
    });
    show($("full"), document.fullscreenEnabled);
  }

  /** Write what depends on the language. */
  translate() {
    this.#sync();
    this.#opacity();
  }

  /** Load the viewer while nothing else is to be done. */
  prepare() {
    if (VolumeView.possible) this.#volume.prepare().catch(() => {}); // told when it is needed
  }

  /** Show nothing but a text. */
  blank(text) {
    $("volume").classList.add("away");
    for (const id of ["flat", "tools", "keys"]) show($(id), false);
    show($("blank"));
    $("blank-text").textContent = text;
  }

  /** Show a file before it is computed, if the browser can read it; whether it could. */
  async preview(file) {
    const type = PICTURES[file.name.split(".").pop().toLowerCase()];
    if (type === undefined && !VOLUMES.test(file.name)) return false;
    try {
      return await this.image(await file.arrayBuffer(), file.name, type ?? "");
    } catch {
      return false; // the server says what is wrong with it
    }
  }

  /** Show an image; false if this browser cannot. */
  async image(content, name, type) {
    this.#isFlat = type.startsWith("image/");
    if (!this.#isFlat && !VolumeView.possible) return false;
    const shown = this.#isFlat ? await this.#flat.image(content, type) : await this.#volume.image(content, name);
    if (shown === false) return false;
    this.#open();
    return true;
  }

  /** Show a label map over the image, or alone if there is none; false if this browser cannot. */
  async labels(content, name, type, labels, hasImage) {
    this.#isFlat = type.startsWith("image/");
    if (this.#isFlat ? type !== "image/png" : !VolumeView.possible) return false;
    if (this.#isFlat) {
      if (!hasImage) this.#flat.forgetImage();
      await this.#flat.labels(content, labels);
    } else {
      if (!hasImage) this.#volume.forgetImage();
      await this.#volume.labels(content, name, labels);
    }
    this.#open();
    return true;
  }

  /** Offer a map of uncertainty over the volume that is shown. */
  async uncertainty(content, name) {
    if (this.#isFlat || !VOLUMES.test(name)) return;
    await this.#volume.uncertainty(content, name);
    show($("uncertain-row"));
  }

  /** Nothing will come: say so where nothing is shown. */
  idle() {
    if (!$("blank").hidden) this.blank(t("blank"));
  }

  /** Show or hide one label. */
  toggle(value, on) {
    this.#both((view) => view.toggle(value, on));
  }

  #open() {
    show($("blank"), false);
    show($("uncertain-row"), false);
    $("uncertain").checked = false;
    $("volume").classList.toggle("away", this.#isFlat);
    show($("flat"), this.#isFlat);
    for (const id of ["views", "centre", "keys"]) show($(id), !this.#isFlat);
    show($("tools"));
    this.#sync();
    this.#opacity();
  }

  #opacity() {
    const share = Number($("opacity").value);
    $("opacity-value").textContent = `${number(share)} %`;
    this.#both((view) => (view.opacity = share / 100));
  }

  #sync() {
    const now = this.#isFlat ? null : this.#volume.slice;
    show($("slice-row"), now !== null);
    if (now === null) return;
    Object.assign($("slice"), { max: now.count, value: now.slice });
    $("slice-value").textContent = t("slice_of", now);
  }

  #both(change) {
    change(this.#isFlat ? this.#flat : this.#volume);
  }
}
