// Preview requests, one at a time: each change is debounced and aborts the pending request.

import { retryDelay } from "./retry.js";

const DEBOUNCE = 150;
const BUSY_DELAY = 200;

export class Previewer {
  #turn = 0;
  #timer = 0;
  #controller = null;

  /** `show` has the callbacks busy(bool), picture({blob, texts}) and problem({detail, errors}). */
  constructor(url, show, texts) {
    this.url = url;
    this.show = show;
    this.texts = texts;
  }

  /** Request a preview after a short delay. `collect` returns the data of the form at that time. */
  ask(collect, delay = DEBOUNCE) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#send(collect(), 0), delay);
  }

  /** Request a text output of the last preview, which the server has cached. */
  async text(data, label) {
    data.set("output", label);
    const answer = await fetch(this.url, { method: "POST", body: data });
    return answer.ok ? answer.text() : "";
  }

  /** `refused`: how often the server has refused this preview as too busy. */
  async #send(data, refused) {
    const turn = ++this.#turn;
    this.#controller?.abort();
    this.#controller = new AbortController();
    const slow = setTimeout(() => turn === this.#turn && this.show.busy(true), BUSY_DELAY);
    try {
      const answer = await fetch(this.url, { method: "POST", body: data, signal: this.#controller.signal });
      const outcome = answer.ok ? await readPicture(answer) : await this.#readProblem(answer);
      // Ignore the response if a newer request was sent in the meantime.
      if (turn !== this.#turn) return;
      this.#deliver(outcome, data);
      const delay = retryDelay(answer, refused);
      // A change in the meantime replaces the retry.
      if (delay !== null) this.#timer = setTimeout(() => this.#send(data, refused + 1), delay);
    } catch (error) {
      if (turn === this.#turn && error.name !== "AbortError") {
        this.show.problem({ detail: this.texts.offline, errors: {} });
      }
    } finally {
      clearTimeout(slow);
      if (turn === this.#turn) this.show.busy(false);
    }
  }

  #deliver(outcome, data) {
    if (outcome.blob) this.show.picture({ ...outcome, data });
    else this.show.problem(outcome);
  }

  async #readProblem(answer) {
    const type = answer.headers.get("Content-Type") || "";
    if (!type.includes("json")) return { detail: this.texts.failed, errors: {} };
    const body = await answer.json();
    return { detail: body.detail || this.texts.failed, errors: body.errors || {} };
  }
}

async function readPicture(answer) {
  const texts = (answer.headers.get("X-Preview-Texts") || "").split(",").filter(Boolean);
  return { blob: await answer.blob(), texts };
}
