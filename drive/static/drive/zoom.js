// Zoom and pan of an image: wheel, pinch, drag, double tap. If not zoomed, a swipe goes to the next file.

// Maximum enlargement of image pixels.
const MOST = 8;
const STEP = 1.5;
const TAP_TIME = 350;
const TAP_MOVE = 12;
const SWIPE = 50;

/** Make the image in `frame` zoomable. `scale` 1 fits it into the frame; `swiped` gets "prev" or "next". */
export class Zoom {
  constructor(frame, { swiped, changed }) {
    this.frame = frame;
    this.image = frame.querySelector("img");
    this.swiped = swiped;
    this.changed = changed;
    this.scale = 1;
    this.x = this.y = 0;
    this.pointers = new Map();
    this.from = this.tap = null;
    this.listen();
    this.observer = new ResizeObserver(() => this.layOut());
    this.observer.observe(frame);
    this.layOut();
  }

  stop() {
    this.observer.disconnect();
  }

  listen() {
    const on = (name, act, options) => this.frame.addEventListener(name, act.bind(this), options);
    on("wheel", this.wheel, { passive: false });
    on("pointerdown", this.down);
    on("pointermove", this.move);
    on("pointerup", this.up);
    on("pointercancel", this.cancel);
    // The link is for pages without scripts and for Enter; mouse clicks zoom.
    on("click", (event) => event.detail && event.preventDefault());
    this.image.addEventListener("load", () => this.layOut());
  }

  /** Size of the original image in pixels; the shown view may be smaller. */
  get size() {
    const [width, height] = ["width", "height"].map((side) => Number(this.image.getAttribute(side)));
    return width ? { width, height } : { width: this.image.naturalWidth, height: this.image.naturalHeight };
  }

  layOut() {
    const { width, height } = this.size;
    if (!width) return;
    // Small images are enlarged only on request.
    this.base = Math.min(this.frame.clientWidth / width, this.frame.clientHeight / height, 1);
    this.image.style.inlineSize = `${width * this.base}px`;
    this.image.style.blockSize = `${height * this.base}px`;
    this.place();
  }

  in() {
    this.to(this.scale * STEP);
  }

  out() {
    this.to(this.scale / STEP);
  }

  fit() {
    this.to(1);
  }

  /** Scale for 100 %; small images, shown at 100 % already, are doubled. */
  whole(point) {
    this.to(this.base < 1 ? 1 / this.base : 2, point);
  }

  /** Zoom around `point`, relative to the center of the frame. */
  to(scale, point = { x: 0, y: 0 }) {
    if (!this.base) return;
    const wanted = Math.min(Math.max(scale, 1), MOST / this.base);
    const ratio = wanted / this.scale;
    this.x = point.x - (point.x - this.x) * ratio;
    this.y = point.y - (point.y - this.y) * ratio;
    this.scale = wanted;
    this.place();
  }

  /** Apply the position, without gaps between image and frame where possible. */
  place() {
    if (!this.base) return;
    const { width, height } = this.size;
    const shown = this.base * this.scale;
    const kept = (at, side, room) => {
      const most = Math.max(0, (side * shown - room) / 2);
      return Math.min(Math.max(at, -most), most);
    };
    this.x = kept(this.x, width, this.frame.clientWidth);
    this.y = kept(this.y, height, this.frame.clientHeight);
    this.draw(this.x, this.y);
    this.frame.classList.toggle("is-zoomed", this.scale > 1);
    this.changed(Math.round(shown * 100));
    this.sharpen(width * shown);
  }

  draw(x, y) {
    this.image.style.transform = `translate(${x}px, ${y}px) scale(${this.scale})`;
  }

  /** Load the original when the zoom needs more pixels than the view has. */
  async sharpen(wanted) {
    const { full } = this.image.dataset;
    const close = this.scale > 1 || document.fullscreenElement;
    if (!full || !close || wanted <= this.image.naturalWidth) return;
    delete this.image.dataset.full;
    const original = new Image();
    original.src = full;
    try {
      await original.decode();
      this.image.src = full;
    } catch {
      // Keep the view; the next zoom retries.
      this.image.dataset.full = full;
    }
  }

  wheel(event) {
    // Without zoom the wheel scrolls the page.
    if (event.deltaY >= 0 && this.scale === 1 && !event.ctrlKey) return;
    event.preventDefault();
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    // A touchpad pinch arrives as wheel events with Ctrl, in smaller steps.
    const speed = event.ctrlKey ? 0.01 : 0.002;
    this.to(this.scale * Math.exp(-event.deltaY * unit * speed), this.point(event));
  }

  point(event) {
    const box = this.frame.getBoundingClientRect();
    return { x: event.clientX - box.x - box.width / 2, y: event.clientY - box.y - box.height / 2 };
  }

  down(event) {
    if (event.button !== 0) return;
    this.frame.setPointerCapture(event.pointerId);
    const point = this.point(event);
    this.pointers.set(event.pointerId, point);
    // Gestures with two fingers are neither taps nor swipes, even after one finger is lifted.
    this.from = this.pointers.size === 1 ? point : null;
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const now = this.point(event);
    if (this.pointers.size === 2) this.pinch(event.pointerId, now);
    else if (this.scale > 1) this.pan(now.x - before.x, now.y - before.y);
    else if (this.from && event.pointerType !== "mouse") this.draw(now.x - this.from.x, 0);
    this.pointers.set(event.pointerId, now);
  }

  pan(x, y) {
    this.x += x;
    this.y += y;
    this.place();
  }

  pinch(moved, now) {
    const before = [...this.pointers.values()];
    const after = [...this.pointers].map(([id, point]) => (id === moved ? now : point));
    const middle = ([a, b]) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
    const apart = ([a, b]) => Math.hypot(a.x - b.x, a.y - b.y) || 1;
    const [was, is] = [middle(before), middle(after)];
    this.pan(is.x - was.x, is.y - was.y);
    this.to((this.scale * apart(after)) / apart(before), is);
  }

  up(event) {
    if (!this.pointers.delete(event.pointerId) || !this.from) return;
    const now = this.point(event);
    const [across, down] = [now.x - this.from.x, now.y - this.from.y];
    const mayStep = this.scale === 1 && event.pointerType !== "mouse";
    this.from = null;
    this.place();
    if (mayStep && Math.abs(across) > SWIPE && Math.abs(across) > 2 * Math.abs(down)) {
      this.swiped(across < 0 ? "next" : "prev");
    } else if (Math.hypot(across, down) < TAP_MOVE) {
      this.tapped(now, event.timeStamp);
    }
  }

  cancel(event) {
    this.pointers.delete(event.pointerId);
    this.from = null;
    this.place();
  }

  tapped(point, at) {
    const last = this.tap;
    const again = last && at - last.at < TAP_TIME && Math.hypot(point.x - last.x, point.y - last.y) < 2 * TAP_MOVE;
    this.tap = again ? null : { ...point, at };
    if (!again) return;
    if (this.scale > 1) this.fit();
    else this.whole(point);
  }
}
