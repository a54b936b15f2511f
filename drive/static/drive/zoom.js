// Zoom and pan of the picture on the stage: wheel, pinch, drag, double tap. At rest, a swipe steps on.

// Pixels of the picture are enlarged so much at most.
const MOST = 8;
const STEP = 1.5;
const TAP_TIME = 350;
const TAP_MOVE = 12;
const SWIPE = 50;

/** Lets the picture in `frame` be zoomed. `scale` 1 fits it into the frame; `swiped` gets "prev" or "next". */
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
    // A link for who has no scripts and for the Enter key; a mouse means the picture.
    on("click", (event) => event.detail && event.preventDefault());
    this.image.addEventListener("load", () => this.layOut());
  }

  /** The picture's own size in pixels: the original's, for which a smaller view may stand. */
  get size() {
    const [width, height] = ["width", "height"].map((side) => Number(this.image.getAttribute(side)));
    return width ? { width, height } : { width: this.image.naturalWidth, height: this.image.naturalHeight };
  }

  layOut() {
    const { width, height } = this.size;
    if (!width) return;
    // Small pictures are not blown up unless somebody asks for it.
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

  /** One pixel of the picture on one of the page; small pictures rest so already and are doubled. */
  whole(point) {
    this.to(this.base < 1 ? 1 / this.base : 2, point);
  }

  /** Zoom so that what is at `point`, counted from the middle of the frame, stays there. */
  to(scale, point = { x: 0, y: 0 }) {
    if (!this.base) return;
    const wanted = Math.min(Math.max(scale, 1), MOST / this.base);
    const ratio = wanted / this.scale;
    this.x = point.x - (point.x - this.x) * ratio;
    this.y = point.y - (point.y - this.y) * ratio;
    this.scale = wanted;
    this.place();
  }

  /** Show the picture where it is now, no edge of it inside the frame that need not be. */
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

  /** Fetch the original when more of its pixels are asked for than the view at hand has. */
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
      // The view stays, and the next step of the zoom tries again.
      this.image.dataset.full = full;
    }
  }

  wheel(event) {
    // At rest the wheel scrolls the page down, as everywhere.
    if (event.deltaY >= 0 && this.scale === 1 && !event.ctrlKey) return;
    event.preventDefault();
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    // Two fingers on a touchpad are told as a wheel with Ctrl, in smaller steps.
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
    // What two fingers do is neither a tap nor a swipe, also when one is lifted before the other.
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
