// Row of previews: after a change, requests the changed step and all later ones, one after another.

import { retryDelay } from "./retry.js";

const DEBOUNCE = 250;

export class Row {
  #timer = 0;
  #turn = 0;
  #controller = null;
  #shown = new Map();
  #from = null;

  /** `collect` returns the data of the form, `showErrors` shows errors at settings, `busy` shows activity. */
  constructor({ url, texts, collect, showErrors, busy }) {
    Object.assign(this, { url, texts, collect, showErrors, busy });
  }

  /** Request previews from `step` on, or of all steps, after a delay that merges quick changes. */
  ask(step, delay = DEBOUNCE) {
    clearTimeout(this.#timer);
    this.#controller?.abort();
    const places = this.#places();
    const first = Math.max(0, places.findIndex((place) => place.dataset.rowStep === step));
    this.#from = this.#from === null ? first : Math.min(this.#from, first);
    this.#timer = setTimeout(() => this.#run(), delay);
  }

  /** Show the previews again after the row was rendered again. */
  fill() {
    for (const place of this.#places()) {
      const url = this.#shown.get(place.dataset.rowStep);
      if (url) showPicture(place, url);
    }
  }

  /** Remove all previews, because another image was selected. */
  forget() {
    for (const url of this.#shown.values()) URL.revokeObjectURL(url);
    this.#shown.clear();
    for (const place of this.#places()) clear(place);
  }

  #places() {
    return [...document.querySelectorAll("[data-row-step]")];
  }

  async #run() {
    const turn = ++this.#turn;
    this.#controller = new AbortController();
    const places = this.#places();
    for (const place of places.slice(this.#from)) place.classList.add("ipau-stale");
    this.busy(true);
    for (let index = this.#from; index < places.length; index++) {
      const outcome = await this.#fetchWithRetry(places[index], turn);
      // A newer request starts at this step or before.
      if (turn !== this.#turn || outcome === null) return;
      this.#from = index + 1;
      if (!this.#deliver(places[index], outcome)) break;
    }
    this.#from = null;
    this.busy(false);
  }

  /** Fetch a preview, and retry if the server is too busy. The step shows the reason meanwhile. */
  async #fetchWithRetry(place, turn) {
    for (let refused = 0; ; refused++) {
      const outcome = await this.#fetch(place.dataset.rowStep, refused);
      if (!outcome?.delay || turn !== this.#turn) return outcome;
      place.querySelector("[data-row-problem]").textContent = outcome.detail;
      await new Promise((resolve) => setTimeout(resolve, outcome.delay));
      if (turn !== this.#turn) return null;
    }
  }

  async #fetch(step, refused) {
    const data = this.collect();
    data.delete("do");
    data.set("upto", step);
    try {
      const answer = await fetch(this.url, { method: "POST", body: data, signal: this.#controller.signal });
      if (answer.ok) return { blob: await answer.blob() };
      const type = answer.headers.get("Content-Type") || "";
      const body = type.includes("json") ? await answer.json() : {};
      const delay = retryDelay(answer, refused);
      return { detail: body.detail || this.texts.failed, errors: body.errors || {}, delay };
    } catch (error) {
      return error.name === "AbortError" ? null : { detail: this.texts.offline, errors: {} };
    }
  }

  /** Show a response. Return whether to request the later steps. */
  #deliver(place, { blob, detail, errors }) {
    this.showErrors(errors || {});
    place.querySelector("[data-row-problem]").textContent = detail || "";
    if (!blob) return false;
    place.classList.remove("ipau-stale");
    if (blob.size) {
      const step = place.dataset.rowStep;
      const old = this.#shown.get(step);
      const url = URL.createObjectURL(blob);
      this.#shown.set(step, url);
      showPicture(place, url);
      if (old) URL.revokeObjectURL(old);
    }
    return true;
  }
}

function showPicture(place, url) {
  const picture = place.querySelector("img");
  picture.src = url;
  picture.hidden = false;
  place.querySelector("[data-row-empty]")?.setAttribute("hidden", "");
}

function clear(place) {
  const picture = place.querySelector("img");
  const empty = place.querySelector("[data-row-empty]");
  if (!empty) return;
  picture.hidden = true;
  picture.removeAttribute("src");
  empty.removeAttribute("hidden");
}
