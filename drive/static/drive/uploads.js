// The queue of uploads and the tray that shows it.
import { send } from "./transport.js";

const AT_ONCE = 3;

const form = document.getElementById("drive-upload");
const tray = document.getElementById("drive-tray");
const title = document.getElementById("drive-tray-title");
const list = tray?.querySelector("ul");
const row = document.getElementById("drive-upload-row");

const waiting = [];
const running = new Set();
let taken = () => {};
let total = 0;
let finished = 0;
let failed = 0;

/** Prepare the upload form and tray; `onTaken` gets the server's description of each file that came in. */
export function startUploads(onTaken) {
  if (!form) return;
  taken = onTaken;
  const input = form.elements.file;
  input.addEventListener("change", () => {
    add(input.files);
    input.value = "";
  });
  tray.querySelector("[data-tray-close]").addEventListener("click", close);
  const fold = tray.querySelector("[data-tray-fold]");
  fold.addEventListener("click", () => {
    list.hidden = !list.hidden;
    fold.setAttribute("aria-expanded", String(!list.hidden));
  });
  window.addEventListener("beforeunload", (event) => {
    if (running.size || waiting.length) event.preventDefault();
  });
}

/** Queue files, in the order given. */
export function add(files) {
  for (const file of files) enqueue(file);
  if (files.length) tray.hidden = false;
  work();
}

function enqueue(file) {
  const item = { file, element: row.content.cloneNode(true).firstElementChild, transfer: null };
  item.element.querySelector(".drive-tray-name").textContent = file.name;
  item.element.querySelector("[data-retry]").addEventListener("click", () => retry(item));
  item.element.querySelector("[data-cancel]").addEventListener("click", () => cancel(item));
  list.append(item.element);
  total += 1;
  if (file.size > Number(form.dataset.maxBytes)) fail(item, { code: "large" });
  else waiting.push(item);
}

function work() {
  while (running.size < AT_ONCE && waiting.length) run(waiting.shift());
  tell();
}

async function run(item) {
  running.add(item);
  const bar = item.element.querySelector("progress");
  item.element.dataset.state = "running";
  const fields = form.elements.folder ? { folder: form.elements.folder.value } : {};
  item.transfer = send({
    file: item.file,
    url: form.action,
    fields,
    token: form.elements.csrfmiddlewaretoken.value,
    onProgress: (part) => (bar.value = part),
  });
  try {
    taken(await item.transfer.done);
    bar.value = 1;
    finished += 1;
    item.element.dataset.state = "done";
    item.element.querySelector("[data-cancel]").hidden = true;
    item.element.querySelector(".drive-tray-state").textContent = tray.dataset.textUploaded;
  } catch (error) {
    if (error.code === "cancelled") drop(item);
    else fail(item, error);
  } finally {
    running.delete(item);
    work();
  }
}

function fail(item, error) {
  const words = { large: "textLarge", offline: "textOffline", "signed-out": "textSignedOut" };
  failed += 1;
  item.element.dataset.state = "failed";
  item.element.querySelector(".drive-tray-state").textContent =
    error.message || tray.dataset[words[error.code] || "textOffline"];
  item.element.querySelector("[data-retry]").hidden = false;
  item.element.scrollIntoView({ block: "nearest" });
}

function retry(item) {
  failed -= 1;
  item.element.dataset.state = "waiting";
  item.element.querySelector(".drive-tray-state").textContent = "";
  item.element.querySelector("[data-retry]").hidden = true;
  item.element.querySelector("progress").value = 0;
  waiting.push(item);
  work();
}

function cancel(item) {
  if (running.has(item)) item.transfer.cancel();
  else {
    const place = waiting.indexOf(item);
    if (place >= 0) waiting.splice(place, 1);
    else failed -= 1;
    drop(item);
    tell();
  }
}

function drop(item) {
  total -= 1;
  item.element.remove();
  if (!total) close();
}

function tell() {
  const text = tray.dataset;
  if (running.size || waiting.length) {
    title.textContent = text.textRunning.replace("%(done)s", finished + failed).replace("%(total)s", total);
  } else if (total) {
    title.textContent = failed ? text.textFailed : text.textDone;
  }
}

function close() {
  for (const item of waiting.splice(0)) item.element.remove();
  for (const item of running) item.transfer.cancel();
  list.replaceChildren();
  total = finished = failed = 0;
  tray.hidden = true;
}
