// Dragging steps by their grips. The buttons beside them do the same for keyboards and touch.

export class Reorder {
  #dragged = null;
  #before = "";

  /** `done` is called when the steps stand in another order. */
  constructor(done) {
    this.done = done;
  }

  /** Take over a list that was drawn. */
  adopt(list) {
    for (const grip of list.querySelectorAll("[data-grip]")) {
      grip.hidden = false;
      const step = grip.closest("[data-step]");
      // Only by its grip: text in its fields can still be marked with the mouse.
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
    const under = event.target.closest("[data-step]");
    if (!under || under === this.#dragged) return;
    const box = under.getBoundingClientRect();
    const below = event.clientY > box.top + box.height / 2;
    list.insertBefore(this.#dragged, below ? under.nextSibling : under);
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
