// Pipeline editor: a preview after each step, drag and drop, focus, and a warning about unsaved changes.

import { Reorder } from "./reorder.js";
import { Row } from "./row.js";
import { Settings } from "./settings.js";

const form = document.getElementById("playground");
const byId = (id) => document.getElementById(id);
let settings = new Settings(byId("steps"));
let saved = true;
let pressed = null;

const row = new Row({
  url: form.dataset.previewUrl,
  texts: { offline: form.dataset.textOffline, failed: form.dataset.textFailed },
  collect: () => new FormData(form),
  showErrors: (errors) => settings.showErrors(errors),
  busy: (on) => (byId("row-busy").hidden = !on),
});
const reorder = new Reorder(() => {
  window.htmx.ajax("POST", form.action, {
    source: form,
    target: "#steps",
    swap: "outerHTML",
    values: { do: "order" },
  });
});

function stepOf(element) {
  return element.closest("[data-step]")?.dataset.step;
}

function begin() {
  settings = new Settings(byId("steps"));
  reorder.attach(byId("step-list"));
  row.fill();
}

form.addEventListener("input", (event) => {
  const step = stepOf(event.target);
  if (["q", "find"].includes(event.target.name)) return;
  saved = false;
  if (!step) return;
  settings.showRelevant();
  row.ask(step);
});

document.addEventListener("change", (event) => {
  if (event.target.name === "file") {
    byId("row-original").src = event.target.dataset.original;
    row.forget();
    row.ask();
  }
});

form.addEventListener("click", (event) => (pressed = event.target.closest('[name="do"]') || pressed));

// A removed or disabled button loses the focus. Move the focus to the nearest active button.
function keepFocus() {
  if (!pressed || document.activeElement !== document.body) return;
  const step = pressed.value.split(":")[1];
  const candidates = [pressed.id, `down-${step}`, `up-${step}`, "app"].map(byId);
  candidates.find((button) => button && !button.disabled)?.focus();
}

form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("input")) event.preventDefault();
});

// The steps and the row of previews were rendered again.
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.detail.target.id !== "steps" && event.detail.elt.id !== "steps") return;
  saved = false;
  begin();
  keepFocus();
  row.ask(undefined, 0);
});

form.addEventListener("submit", () => (saved = true));
window.addEventListener("beforeunload", (event) => {
  if (!saved) event.preventDefault();
});

document.querySelectorAll("[data-no-script]").forEach((part) => part.remove());
document.querySelectorAll("[data-needs-script]").forEach((part) => (part.hidden = false));
begin();
if (!form.querySelector(".is-invalid")) row.ask(undefined, 0);
