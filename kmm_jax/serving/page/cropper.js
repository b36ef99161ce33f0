// A box on a picture: drawn or moved with the pointer, or with the keyboard alone.

const LEAST = 0.04; // of a side
const STEP = 0.02;

const within = (value, low, high) => Math.min(Math.max(value, low), high);

export class Cropper {
  // frame: what holds the picture; box: what lies over it. Calls changed() when the box changes.
  constructor(frame, box, changed = () => {}) {
    Object.assign(this, { frame, box, changed, value: null, drag: null });
    frame.addEventListener("pointerdown", (event) => this.begin(event));
    frame.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) frame.addEventListener(name, () => { this.drag = null; });
    box.addEventListener("keydown", (event) => this.key(event));
  }

  set(value) {
    this.value = value;
    const [x0, y0, x1, y1] = value ?? [0, 0, 1, 1];
    Object.assign(this.box.style, { left: `${100 * x0}%`, top: `${100 * y0}%`, width: `${100 * (x1 - x0)}%`, height: `${100 * (y1 - y0)}%` });
    this.changed(value);
  }

  at(event) {
    const { left, top, width, height } = this.frame.getBoundingClientRect();
    return [within((event.clientX - left) / width, 0, 1), within((event.clientY - top) / height, 0, 1)];
  }

  begin(event) {
    if (event.button) return;
    event.preventDefault();
    this.frame.setPointerCapture(event.pointerId);
    const [x, y] = this.at(event);
    const [x0, y0, x1, y1] = this.value ?? [0, 0, 0, 0];
    const inside = x0 <= x && x <= x1 && y0 <= y && y <= y1;
    this.drag = inside ? { x, y, from: this.value } : { x, y };
    this.box.focus();
  }

  move(event) {
    if (!this.drag) return;
    const [x, y] = this.at(event);
    const { from } = this.drag;
    if (from) this.shift(from, x - this.drag.x, y - this.drag.y);
    else if (Math.max(Math.abs(x - this.drag.x), Math.abs(y - this.drag.y)) >= LEAST) {
      const [left, top] = [Math.min(x, this.drag.x), Math.min(y, this.drag.y)];
      this.set(this.fitted([left, top, Math.max(x, this.drag.x), Math.max(y, this.drag.y)]));
    }
  }

  shift([x0, y0, x1, y1], across, down) {
    across = within(across, -x0, 1 - x1);
    down = within(down, -y0, 1 - y1);
    this.set([x0 + across, y0 + down, x1 + across, y1 + down]);
  }

  fitted([x0, y0, x1, y1]) {
    x1 = within(x1, Math.min(x0 + LEAST, 1), 1);
    y1 = within(y1, Math.min(y0 + LEAST, 1), 1);
    return [Math.min(x0, x1 - LEAST), Math.min(y0, y1 - LEAST), x1, y1];
  }

  // Arrows move it, with shift they pull its lower right corner.
  key(event) {
    const way = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (!way) return;
    event.preventDefault();
    const [x0, y0, x1, y1] = this.value ?? [0.25, 0.25, 0.75, 0.75];
    if (event.shiftKey) this.set(this.fitted([x0, y0, x1 + way[0], y1 + way[1]]));
    else this.shift([x0, y0, x1, y1], ...way);
  }
}
