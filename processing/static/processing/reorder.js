// Drag and drop of steps by their grips. Buttons do the same for keyboard and touch.

export class Reorder {
  #dragged = null;
  #before = "";

  /** `done` is called after the order of the steps has changed. */
  constructor(done) {
    this.done = done;
  }

  /** Attach to a rendered list. */
  attach(list) {
    for (const grip of list.querySelectorAll("[data-grip]")) {
      grip.hidden = false;
      const step = grip.closest("[data-step]");
      // Draggable only by the grip, so that text in fields can be selected with the mouse.
      grip.addEventListener("pointerdown", () => (step.draggable = true));
      grip.addEventListener("pointerup", () => (step.draggable = false));
    }
    list.addEventListener("dragstart", (event) => this.#begin(event, list));
    list.addEventListener("dragover", (event) => this.#over(event, list));
    list.addEventListener("drop", (event) => this.#dragged && event.preventDefault());
    list.addEventListener("dragend", () => this.#end(list));
  }

  #begin(event, list) {
    this.#dragged = event.target.closest?.("[data-step]");
    if (!this.#dragged) return;
    this.#before = order(list);
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", this.#dragged.dataset.step);
    this.#dragged.classList.add("ipau-dragged");
  }

  #over(event, list) {
    if (!this.#dragged) return;
    event.preventDefault();
    const target = event.target.closest("[data-step]");
    if (!target || target === this.#dragged) return;
    const box = target.getBoundingClientRect();
    const below = event.clientY > box.top + box.height / 2;
    list.insertBefore(this.#dragged, below ? target.nextSibling : target);
  }

  #end(list) {
    if (!this.#dragged) return;
    this.#dragged.classList.remove("ipau-dragged");
    this.#dragged.draggable = false;
    this.#dragged = null;
    if (order(list) !== this.#before) this.done();
  }
}

function order(list) {
  return [...list.querySelectorAll("[data-step]")].map((step) => step.dataset.step).join(" ");
}
