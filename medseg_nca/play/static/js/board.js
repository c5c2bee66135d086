// The picture, and the brush over it: with the mouse, a pen, a finger, or the keyboard.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Board {
  /** `painted` hears every touch of the brush, as shares of the picture. */
  constructor(canvas, cursor, painted) {
    this.canvas = canvas;
    this.cursor = cursor;
    this.painted = painted;
    this.radius = 1;
    this.place = [0.5, 0.5];
    this.context = canvas.getContext("2d");
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerleave", () => this.leave());
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => this.circle());
    canvas.addEventListener("blur", () => this.leave());
  }

  /** Draw pixels of four bytes. */
  draw(width, height, content, offset) {
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const pixels = new Uint8ClampedArray(content, offset, 4 * width * height);
    this.context.putImageData(new ImageData(pixels, width, height), 0, 0);
  }

  /** Where the picture lies within its element: left, top, and pixels of the screen a pixel. */
  fit() {
    const { clientWidth, clientHeight, width, height } = this.canvas;
    const scale = Math.min(clientWidth / width, clientHeight / height);
    return [(clientWidth - width * scale) / 2, (clientHeight - height * scale) / 2, scale];
  }

  share(event) {
    const box = this.canvas.getBoundingClientRect();
    const [left, top, scale] = this.fit();
    return [
      (event.clientX - box.left - left) / (this.canvas.width * scale),
      (event.clientY - box.top - top) / (this.canvas.height * scale),
    ];
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.move(event, true);
  }

  move(event, touched = event.buttons === 1) {
    const place = this.share(event);
    if (place.some((share) => share < 0 || share > 1)) return;
    this.place = place;
    this.circle();
    if (touched) this.painted(...place);
  }

  leave() {
    if (document.activeElement !== this.canvas) this.cursor.hidden = true;
  }

  key(event) {
    if (event.key === " ") {
      this.painted(...this.place);
    } else if (event.key in ARROWS) {
      const far = event.shiftKey ? 10 : 1;
      const sizes = [this.canvas.width, this.canvas.height];
      this.place = this.place.map((share, axis) =>
        Math.min(Math.max(share + (far * ARROWS[event.key][axis]) / sizes[axis], 0), 1));
    } else {
      return;
    }
    this.circle();
    event.preventDefault();
  }

  /** Show where the brush is, as large as it is. */
  circle() {
    const [left, top, scale] = this.fit();
    const across = 2 * this.radius * scale;
    this.cursor.hidden = false;
    Object.assign(this.cursor.style, {
      left: `${this.canvas.offsetLeft + left + this.place[0] * this.canvas.width * scale}px`,
      top: `${this.canvas.offsetTop + top + this.place[1] * this.canvas.height * scale}px`,
      width: `${across}px`,
      height: `${across}px`,
    });
  }
}
