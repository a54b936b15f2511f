// Playground: live preview, settings in the query string, snippets, and Ctrl-Enter to run.

import { Box } from "./box.js";
import "./fit.js";
import { Detections } from "./found.js";
import { Previewer } from "./preview.js";
import { Settings } from "./settings.js";
import { writeSnippets } from "./snippets.js";

const form = document.getElementById("playground");
const byId = (id) => document.getElementById(id);
const compare = byId("compare");
const before = byId("preview-before");
const after = byId("preview-after");
const settings = new Settings(form);
let shownUrl = "";
let lastData = null;

const show = {
  busy(on) {
    byId("preview-busy").hidden = !on;
    if (on) byId("preview-status").textContent = form.dataset.textBusy;
  },
  async picture({ blob, texts, data }) {
    this.problem({ detail: "", errors: {} });
    await showResult(blob);
    lastData = data;
    fillDetections();
    if (texts.length) fillText(texts[0]);
    byId("preview-status").textContent = form.dataset.textReady;
  },
  problem({ detail, errors }) {
    const place = byId("preview-problem");
    const atFields = Object.keys(errors).some((name) => name in settings.defaults);
    place.textContent = atFields ? "" : detail;
    place.classList.toggle("d-none", !detail || atFields);
    byId("settings-error").classList.add("d-none");
    settings.showErrors(errors);
    byId("stage").classList.toggle("ipau-stale", Boolean(detail));
  },
};
const previewer = new Previewer(form.dataset.previewUrl, show, {
  offline: form.dataset.textOffline,
  failed: form.dataset.textFailed,
});

async function showResult(blob) {
  // Without a result image, show the original.
  if (!blob.size) {
    after.src = before.src;
    return;
  }
  const url = URL.createObjectURL(blob);
  const ready = new Image();
  ready.src = url;
  try {
    // Decode before display, to avoid flicker.
    await ready.decode();
  } catch {
    URL.revokeObjectURL(url);
    return;
  }
  after.src = url;
  if (shownUrl) URL.revokeObjectURL(shownUrl);
  shownUrl = url;
}

async function fillText(label) {
  const panel = byId("text-output");
  if (!panel || !panel.open || !lastData) return;
  const data = lastData;
  const copy = new FormData();
  for (const [name, value] of data) copy.append(name, value);
  const text = await previewer.text(copy, label);
  if (data === lastData) byId("preview-text").textContent = text;
}

async function fillDetections() {
  if (!detections) return;
  const data = lastData;
  const copy = new FormData();
  for (const [name, value] of data) copy.append(name, value);
  const text = await previewer.text(copy, "data");
  if (data === lastData) detections.show(text);
}

function collect() {
  const data = new FormData(form);
  for (const name of ["over", "request_key"]) data.delete(name);
  // Options of the run are not needed. A table would be uploaded with every preview.
  for (const name of [...data.keys()]) if (name.startsWith("opt-")) data.delete(name);
  return data;
}

function writeAddress() {
  const now = new URL(location.href);
  const query = new URLSearchParams(settings.changed());
  carrySettings(query);
  for (const name of ["selection", "folder", "tab"]) {
    for (const value of now.searchParams.getAll(name)) query.append(name, value);
  }
  const chosen = chosenPicture();
  if (chosen && (now.searchParams.has("file") || chosen !== document.querySelector('[name="file"]'))) {
    query.set("file", chosen.value);
  }
  const text = query.toString();
  history.replaceState(history.state, "", text ? `?${text}` : location.pathname);
}

// Add the settings to links. Without JavaScript, links have the defaults.
function carrySettings(query) {
  for (const link of document.querySelectorAll("[data-carries-settings]")) {
    const url = new URL(link.href);
    url.search = new URLSearchParams([["add", url.searchParams.get("add")], ...query]).toString();
    link.href = url.href;
  }
}

function chosenPicture() {
  return document.querySelector('[name="file"]:checked');
}

function writeCalls() {
  writeSnippets(settings.values(), form.dataset.filesUrl + (chosenPicture()?.value || "FILE-ID"));
}

function settingsChanged() {
  settings.showRelevant();
  box?.offer();
  writeCalls();
  writeAddress();
  previewer.ask(collect);
}

// Handle the selection of another image or sample.
function pictureChanged(radio) {
  before.src = radio.dataset.original;
  // Show the new image on both sides until its preview arrives.
  after.src = radio.dataset.original;
  byId("preview-name").textContent = radio.dataset.name;
  detections?.forget();
  if (radio.name === "file") {
    form.querySelector('[type="hidden"][name="sample"]')?.remove();
    byId("samples")?.remove();
  }
  writeCalls();
  writeAddress();
  previewer.ask(collect, 0);
}

function writeRunText() {
  const chosen = byId("over")?.selectedOptions[0];
  if (!chosen) return;
  byId("run-text").textContent = chosen.dataset.run;
  byId("quote").setAttribute("hx-vals", JSON.stringify({ pictures: chosen.dataset.pictures }));
  byId("quote").dispatchEvent(new Event("quote"));
}

const box = byId("draw-box")
  ? new Box({ stage: byId("stage"), picture: compare, button: byId("draw-box"), settings, changed: settingsChanged })
  : null;

const detections = byId("found") ? new Detections({ panel: byId("found"), before, after }) : null;

form.addEventListener("input", (event) => {
  if (event.target.closest("[data-setting]")) settingsChanged();
});
document.addEventListener("change", (event) => {
  if (event.target.name === "file" || event.target.name === "sample") pictureChanged(event.target);
  else if (event.target.id === "over") writeRunText();
  else if (event.target.name === "pictures" && event.target.files.length) byId("upload-form").requestSubmit();
});
form.querySelector("[data-reset]").addEventListener("click", (event) => {
  event.preventDefault();
  settings.reset();
  settingsChanged();
});
form.addEventListener("keydown", (event) => {
  // Enter in a field must not run the job. Ctrl-Enter does.
  if (event.key === "Enter" && !event.ctrlKey && event.target.matches("input")) event.preventDefault();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && byId("run")) {
    event.preventDefault();
    form.requestSubmit(byId("run"));
  }
});
// The picker was rendered again. A new upload is already selected.
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id !== "pictures") return;
  const chosen = event.detail.target.querySelector('[name="file"]:checked');
  if (chosen) pictureChanged(chosen);
  const upload = document.querySelector('[name="pictures"]');
  if (upload) upload.value = "";
});
byId("text-output")?.addEventListener("toggle", () => fillText("text"));
document.querySelectorAll("[data-no-script]").forEach((part) => part.remove());

writeRunText();
writeCalls();
box?.offer();
if (!form.querySelector(".is-invalid")) previewer.ask(collect, 0);
