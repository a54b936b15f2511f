// Detections of a model: filtered by class and confidence in the browser, without another run.
//
// Without a filter, the annotated image of the worker is shown, if there is one. With a filter, the remaining
// detections are drawn over the original, or over the result if the model saw that image. For a pipeline, the data of
// one step are filtered, and only if the page says that they can be drawn. The controls have no names, so no form
// sends them.

import { draw } from "./drawing.js";

const GUESSES_SHOWN = 10;

export class Detections {
  #data = null;

  constructor({ panel, before, after }) {
    Object.assign(this, { panel, after, base: panel.dataset.over === "result" ? after : before });
    this.canvas = document.getElementById("found-picture");
    this.filter = panel.querySelector("#found-filter");
    this.classes = panel.querySelector("#found-classes");
    this.least = panel.querySelector("#found-confidence");
    this.guesses = panel.querySelector("#found-guesses");
    this.filter.addEventListener("input", () => this.#applyFilter());
    this.base.addEventListener("load", () => this.#applyFilter());
  }

  /** Show detections from JSON text; empty text for none. */
  show(text) {
    this.#data = text ? JSON.parse(text) : null;
    this.#showClasses();
    this.#applyFilter();
  }

  /** Remove the detections, because another image was selected. */
  forget() {
    this.#data = null;
    this.filter.hidden = true;
    this.guesses.hidden = true;
    this.#announce("");
    this.#write(null);
    this.#showPlain();
  }

  /** Data of the step with the filtered detections. */
  get #stepData() {
    const { part } = this.panel.dataset;
    return part ? this.#data?.[part] : this.#data;
  }

  get #all() {
    return this.#stepData?.predictions ?? [];
  }

  // Show the classes of the detections. Classes that are unchecked stay unchecked.
  #showClasses() {
    const unchecked = new Set(this.#boxes().filter((box) => !box.checked).map((box) => box.value));
    const counts = new Map();
    for (const one of this.#all) counts.set(one.class, (counts.get(one.class) ?? 0) + 1);
    this.classes.replaceChildren(...[...counts].map(([name, count]) => classBox(name, count, !unchecked.has(name))));
    const least = Math.min(...this.#all.map((one) => one.confidence), 1);
    this.least.min = String(Math.floor(least * 100));
    // Classes of a classifier have no position. They are listed, and there is no filter.
    const hasBoxes = this.#all.some((one) => one.width !== undefined);
    this.filter.hidden = !hasBoxes || !this.panel.hasAttribute("data-narrows");
    this.guesses.hidden = hasBoxes || !this.#all.length;
    this.guesses.replaceChildren(...(hasBoxes ? [] : this.#all.slice(0, GUESSES_SHOWN).map(guessRow)));
  }

  #boxes() {
    return [...this.classes.querySelectorAll("input")];
  }

  #applyFilter() {
    const least = Number(this.least.value);
    document.getElementById("found-least").textContent = `${least} %`;
    if (!this.#data) return;
    if (!this.#stepData?.predictions) {
      this.#write(this.#data);
      return;
    }
    const shown = new Set(this.#boxes().filter((box) => box.checked).map((box) => box.value));
    const remaining = this.#all.filter((one) => shown.has(one.class) && one.confidence * 100 >= least);
    this.#showSummary(remaining.length);
    const filtered = { ...this.#stepData, predictions: remaining };
    const { part } = this.panel.dataset;
    this.#write(part ? { ...this.#data, [part]: filtered } : filtered);
    const isUnfiltered = remaining.length === this.#all.length && !this.panel.hasAttribute("data-draws");
    if (isUnfiltered || this.filter.hidden) this.#showPlain();
    else this.#showDrawn(remaining);
  }

  #showSummary(number) {
    const { textShown, textNothing } = this.panel.dataset;
    const { top, confidence } = this.#stepData;
    if (top !== undefined) {
      this.#announce(`${top}, ${Math.round(confidence * 100)} %`);
      return;
    }
    const summary = textShown.replace("%(shown)s", number).replace("%(all)s", this.#all.length);
    this.#announce(this.#all.length ? summary : textNothing);
  }

  #announce(text) {
    this.panel.querySelector("#found-said").textContent = text;
  }

  #write(data) {
    this.panel.querySelector("#found-json").textContent = data ? JSON.stringify(data, null, 2) : "";
  }

  #showPlain() {
    this.canvas.hidden = true;
    this.after.hidden = false;
  }

  #showDrawn(remaining) {
    if (!this.base.complete || !this.base.naturalWidth) return;
    draw(this.canvas, this.base, this.#stepData.image, remaining);
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
