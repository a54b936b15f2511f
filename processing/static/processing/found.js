// What a model found in the picture: narrowed by class and confidence on the data, without another run.
//
// As long as nothing is narrowed the worker's own picture is shown, if it is drawn there; after that, the original
// with what is left drawn over it, or the result where that is what the model saw. Of a pipeline's steps the part of one
// is narrowed, and only where the page says that it can be drawn. The settings stay out of this: these controls have no
// names, so no form sends them.

import { draw } from "./drawing.js";

const GUESSES_SHOWN = 10;

export class Found {
  #data = null;

  constructor({ panel, before, after }) {
    Object.assign(this, { panel, after, base: panel.dataset.over === "result" ? after : before });
    this.canvas = document.getElementById("found-picture");
    this.filter = panel.querySelector("#found-filter");
    this.classes = panel.querySelector("#found-classes");
    this.least = panel.querySelector("#found-confidence");
    this.guesses = panel.querySelector("#found-guesses");
    this.filter.addEventListener("input", () => this.#narrow());
    this.base.addEventListener("load", () => this.#narrow());
  }

  /** Show what was found: the JSON's text, empty where there is none. */
  show(text) {
    this.#data = text ? JSON.parse(text) : null;
    this.#offer();
    this.#narrow();
  }

  /** Another picture was chosen: what is known is not about that one. */
  forget() {
    this.#data = null;
    this.filter.hidden = true;
    this.guesses.hidden = true;
    this.#say("");
    this.#write(null);
    this.#showPlain();
  }

  /** What the one step tells whose finds are narrowed. */
  get #told() {
    const { part } = this.panel.dataset;
    return part ? this.#data?.[part] : this.#data;
  }

  get #all() {
    return this.#told?.predictions ?? [];
  }

  // Offer the classes that there are. Those that somebody took out of the last picture stay out.
  #offer() {
    const out = new Set(this.#boxes().filter((box) => !box.checked).map((box) => box.value));
    const counts = new Map();
    for (const one of this.#all) counts.set(one.class, (counts.get(one.class) ?? 0) + 1);
    this.classes.replaceChildren(...[...counts].map(([name, count]) => classBox(name, count, !out.has(name))));
    const least = Math.min(...this.#all.map((one) => one.confidence), 1);
    this.least.min = String(Math.floor(least * 100));
    // What a classifier says is of the whole picture: its guesses stand in a list, and there is nothing to narrow.
    const placed = this.#all.some((one) => one.width !== undefined);
    this.filter.hidden = !placed || !this.panel.hasAttribute("data-narrows");
    this.guesses.hidden = placed || !this.#all.length;
    this.guesses.replaceChildren(...(placed ? [] : this.#all.slice(0, GUESSES_SHOWN).map(guessRow)));
  }

  #boxes() {
    return [...this.classes.querySelectorAll("input")];
  }

  #narrow() {
    const least = Number(this.least.value);
    document.getElementById("found-least").textContent = `${least} %`;
    if (!this.#data) return;
    if (!this.#told?.predictions) {
      this.#write(this.#data);
      return;
    }
    const shown = new Set(this.#boxes().filter((box) => box.checked).map((box) => box.value));
    const left = this.#all.filter((one) => shown.has(one.class) && one.confidence * 100 >= least);
    this.#tell(left.length);
    const told = { ...this.#told, predictions: left };
    const { part } = this.panel.dataset;
    this.#write(part ? { ...this.#data, [part]: told } : told);
    const whole = left.length === this.#all.length && !this.panel.hasAttribute("data-draws");
    if (whole || this.filter.hidden) this.#showPlain();
    else this.#showDrawn(left);
  }

  #tell(number) {
    const { textShown, textNothing } = this.panel.dataset;
    const { top, confidence } = this.#told;
    if (top !== undefined) {
      this.#say(`${top}, ${Math.round(confidence * 100)} %`);
      return;
    }
    const counted = textShown.replace("%(shown)s", number).replace("%(all)s", this.#all.length);
    this.#say(this.#all.length ? counted : textNothing);
  }

  #say(text) {
    this.panel.querySelector("#found-said").textContent = text;
  }

  #write(data) {
    this.panel.querySelector("#found-json").textContent = data ? JSON.stringify(data, null, 2) : "";
  }

  #showPlain() {
    this.canvas.hidden = true;
    this.after.hidden = false;
  }

  #showDrawn(left) {
    if (!this.base.complete || !this.base.naturalWidth) return;
    draw(this.canvas, this.base, this.#told.image, left);
    this.canvas.hidden = false;
    this.after.hidden = true;
  }
}

function classBox(name, count, checked) {
  const label = document.createElement("label");
  label.className = "form-check mb-0";
  const box = document.createElement("input");
  Object.assign(box, { type: "checkbox", className: "form-check-input", value: name, checked });
  const text = document.createElement("span");
  text.className = "form-check-label";
  text.textContent = `${name} (${count})`;
  label.append(box, text);
  return label;
}

function guessRow({ class: name, confidence }) {
  const row = document.createElement("li");
  const text = document.createElement("span");
  text.className = "text-break";
  text.textContent = name;
  const bar = document.createElement("progress");
  Object.assign(bar, { className: "progress progress-sm", max: 1, value: confidence });
  bar.setAttribute("aria-hidden", "true");
  const share = document.createElement("span");
  share.className = "text-secondary text-end";
  share.textContent = `${Math.round(confidence * 100)} %`;
  row.append(text, bar, share);
  return row;
}
