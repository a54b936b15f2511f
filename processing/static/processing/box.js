// Draws the box of the settings x, y, width and height (fractions of the image) on the image.

const LEAST = 0.01;

export class Box {
  /** `stage` contains the image `picture`. `changed` is called after the box has changed. */
  constructor({ stage, picture, button, settings, changed }) {
    Object.assign(this, { stage, picture, button, settings, changed });
    this.sheet = document.createElement("div");
    this.sheet.className = "ipau-box-sheet";
    this.sheet.hidden = true;
    this.outline = document.createElement("div");
    this.outline.className = "ipau-box";
    this.sheet.append(this.outline);
    stage.append(this.sheet);
    button.addEventListener("click", () => this.toggle(this.sheet.hidden));
    this.sheet.addEventListener("pointerdown", (event) => this.#begin(event));
    this.sheet.addEventListener("pointermove", (event) => this.#stretch(event));
    this.sheet.addEventListener("pointerup", () => this.#end());
    this.sheet.addEventListener("pointercancel", () => this.#end());
    new ResizeObserver(() => this.draw()).observe(picture);
  }

  /** Show the button only while the box has an effect. */
  offer() {
    const relevant = this.settings.isShown("width");
    this.button.hidden = !relevant;
    if (!relevant) this.toggle(false);
    this.draw();
  }

  toggle(on) {
    this.sheet.hidden = !on;
    this.button.setAttribute("aria-pressed", String(on));
    this.button.classList.toggle("active", on);
    this.draw();
  }

  draw() {
    if (this.sheet.hidden) return;
    const stage = this.stage.getBoundingClientRect();
    const frame = this.picture.getBoundingClientRect();
    const sheet = this.sheet.style;
    sheet.left = `${frame.left - stage.left}px`;
    sheet.top = `${frame.top - stage.top}px`;
    sheet.width = `${frame.width}px`;
    sheet.height = `${frame.height}px`;
    const { x, y, width, height } = this.settings.values();
    const box = this.outline.style;
    box.left = `${x * 100}%`;
    box.top = `${y * 100}%`;
    box.width = `${Math.min(width, 1 - x) * 100}%`;
    box.height = `${Math.min(height, 1 - y) * 100}%`;
  }

  #begin(event) {
    event.preventDefault();
    this.sheet.setPointerCapture(event.pointerId);
    this.start = this.#point(event);
  }

  #stretch(event) {
    if (!this.start) return;
    const end = this.#point(event);
    const left = Math.min(this.start.x, end.x);
    const top = Math.min(this.start.y, end.y);
    const box = {
      x: left,
      y: top,
      width: Math.max(LEAST, Math.abs(end.x - this.start.x)),
      height: Math.max(LEAST, Math.abs(end.y - this.start.y)),
    };
    for (const [name, part] of Object.entries(box)) this.settings.set(name, part.toFixed(2));
    this.draw();
    this.changed();
  }

  #end() {
    this.start = null;
  }

  #point(event) {
    const frame = this.sheet.getBoundingClientRect();
    const within = (part) => Math.min(1, Math.max(0, part));
    return {
      x: within((event.clientX - frame.left) / frame.width),
      y: within((event.clientY - frame.top) / frame.height),
    };
  }
}
