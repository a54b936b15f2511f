// Upload queue: waiting, running and failed uploads.
import { send } from "./transport.js";
import { addRow, askConflict, closeTray, openTray, showProgress, showState, showTotals, startTray } from "./tray.js";

const AT_ONCE = 3;
// The server, not the network, limits small files.
const SMALL_AT_ONCE = 6;
const SMALL = 1024 * 1024;
// Above this number the tray shows only slow uploads and the first failed ones, and the listing is reloaded
// instead of inserting tiles.
const MANY = 100;
const MOST_FAILED = 20;
const A_WHILE = 1500;

// Folders are read in arbitrary order. Sort names with numbers as users expect: 9 before 10.
const byName = new Intl.Collator(document.documentElement.lang, { numeric: true });

const form = document.getElementById("drive-upload");
const tray = document.getElementById("drive-tray");

let waiting = [];
const running = new Set();
const failed = new Set();
let total = 0;
let finished = 0;
let paused = false;
let arrived = () => {};

/**
 * Prepare the upload form and the tray. `onArrived(ids, complete)` receives the ids of new files in this folder;
 * `complete` is false if there were other new items, or so many that the listing must be reloaded.
 */
export function startUploads(onArrived) {
  if (!form) return;
  arrived = onArrived;
  const input = form.elements.file;
  input.addEventListener("change", () => {
    add(Array.from(input.files, (file) => ({ file, path: "" })));
    input.value = "";
  });
  startTray({ onPause: pauseAll, onClose: close, onRetry: retryAll });
  window.addEventListener("beforeunload", (event) => {
    if (running.size || waiting.length) event.preventDefault();
  });
  // Retry at once when the network is back.
  window.addEventListener("online", () => {
    for (const item of running) if (item.state === "lost") retry(item);
    for (const item of failed) if (item.offline) retry(item);
  });
}

/** Open the folder chooser, and queue all files of the folder. */
export function chooseFolder() {
  const input = document.createElement("input");
  input.type = "file";
  input.webkitdirectory = true;
  input.addEventListener("change", () => {
    add(Array.from(input.files, (file) => ({ file, path: file.webkitRelativePath })));
  });
  input.click();
}

/** Show in the tray that folders are being read. */
export function reading() {
  openTray(tray.dataset.textReading);
}

/** Queue [{ file, path }] sorted by name, after asking what to do with taken names. */
export async function add(entries) {
  const files = [...entries].sort((one, other) => byName.compare(nameOf(one), nameOf(other)));
  if (!files.length) {
    if (!total) closeTray();
    return;
  }
  const taken = new Set(await takenOf(files));
  const choice = taken.size ? await askConflict([...taken]) : "keep_both";
  if (!choice) {
    if (!total) closeTray();
    return;
  }
  openTray();
  const many = total + files.length > MANY;
  for (const { file, path } of files) {
    const item = { file, path, state: "waiting", many, row: null, transfer: null };
    const clashes = taken.has(nameOf({ file, path }));
    item.onConflict = clashes ? choice : "keep_both";
    total += 1;
    if (!many) show(item);
    if (clashes && choice === "skip") settle(item, "skipped");
    else if (file.size > Number(form.dataset.maxBytes)) fail(item, { code: "large" });
    else waiting.push(item);
  }
  work();
}

function nameOf({ file, path }) {
  return path || file.name;
}

/** Ask the server which names are taken. If it does not answer, keep both. */
async function takenOf(files) {
  const body = new FormData();
  body.append("folder", folderId());
  // One field: the number of form fields is limited.
  body.append("paths", JSON.stringify(files.map(nameOf)));
  try {
    const answer = await fetch(form.dataset.clashes, {
      method: "POST",
      headers: { "X-CSRFToken": token() },
      body,
    });
    return answer.ok ? (await answer.json()).taken : [];
  } catch {
    return [];
  }
}

function folderId() {
  return form.elements.folder?.value || "";
}

function token() {
  return form.elements.csrfmiddlewaretoken.value;
}

function show(item) {
  item.row ||= addRow(nameOf(item), {
    onRetry: () => retry(item),
    onPause: () => pause(item, item.state !== "paused"),
    onCancel: () => cancel(item),
  });
}

function showRunning(item) {
  show(item);
  setState(item, item.state);
}

function setState(item, state, sentence) {
  item.state = state;
  showState(item.row, state, sentence);
}

function work() {
  while (!paused && waiting.length && running.size < atOnce(waiting[0])) run(waiting.shift());
  if (!running.size && !waiting.length) {
    paused = false;
    flush();
  }
  tell();
}

function atOnce(next) {
  return [next, ...running].every(({ file }) => file.size <= SMALL) ? SMALL_AT_ONCE : AT_ONCE;
}

async function run(item) {
  running.add(item);
  if (!item.many) show(item);
  else item.timer = setTimeout(() => showRunning(item), A_WHILE);
  setState(item, "running");
  item.transfer = send({
    file: item.file,
    path: item.path,
    folder: folderId(),
    onConflict: item.onConflict,
    url: form.dataset.uploads,
    direct: form.dataset.direct ? { url: form.dataset.direct, least: Number(form.dataset.directLeast) } : null,
    token: token(),
    onProgress: (part) => {
      if (item.state === "lost") setState(item, "running");
      showProgress(item.row, part);
    },
    onWait: () => setState(item, "lost"),
    onCheck: () => setState(item, "checking"),
  });
  try {
    came(item, await item.transfer.done);
    settle(item, "done");
  } catch (error) {
    if (error.code === "canceled") drop(item);
    else fail(item, error);
  } finally {
    clearTimeout(item.timer);
    running.delete(item);
    work();
  }
}

function settle(item, state) {
  finished += 1;
  showProgress(item.row, 1);
  setState(item, state);
  if (!item.many) return;
  item.row?.remove();
  item.row = null;
}

function fail(item, error) {
  const words = { large: "textLarge", offline: "textOffline", "signed-out": "textSignedOut" };
  failed.add(item);
  item.offline = error.code === "offline";
  if (!item.many || item.row || failed.size <= MOST_FAILED) show(item);
  setState(item, "failed", error.message || tray.dataset[words[error.code] || "textOffline"]);
}

function retry(item) {
  if (running.has(item)) {
    setState(item, "running");
    item.transfer.resume();
    return;
  }
  failed.delete(item);
  showProgress(item.row, 0);
  setState(item, "waiting");
  waiting.push(item);
  work();
}

function retryAll() {
  for (const item of Array.from(failed)) {
    failed.delete(item);
    showProgress(item.row, 0);
    setState(item, "waiting");
    waiting.push(item);
  }
  work();
}

function pause(item, on) {
  if (!running.has(item)) return;
  setState(item, on ? "paused" : "running");
  if (on) item.transfer.pause();
  else item.transfer.resume();
}

function pauseAll(on) {
  paused = on;
  for (const item of running) pause(item, on);
  work();
}

function cancel(item) {
  if (running.has(item)) {
    item.transfer.cancel();
    return;
  }
  waiting = waiting.filter((other) => other !== item);
  failed.delete(item);
  drop(item);
  work();
}

function drop(item) {
  total -= 1;
  item.row?.remove();
  if (!total) close();
}

let telling = 0;

/** Show the total progress: at the start, at the end, and a few times a second. */
function tell() {
  const busy = running.size > 0 || waiting.length > 0;
  if (busy && total > MANY) telling ||= setTimeout(tellNow, 250);
  else tellNow();
}

function tellNow() {
  clearTimeout(telling);
  telling = 0;
  const busy = running.size > 0 || waiting.length > 0;
  const many = total > MANY;
  const unseen = many ? Array.from(failed).filter((item) => !item.row).length : 0;
  showTotals({
    total,
    ended: finished + failed.size,
    failed: failed.size,
    busy,
    paused,
    hidden: many ? waiting.length : 0,
    unseen,
  });
}

function close() {
  waiting = [];
  for (const item of running) item.transfer.cancel();
  failed.clear();
  total = finished = 0;
  paused = false;
  closeTray();
}

// --- New files, reported to the page in batches.

let ids = [];
let complete = true;
let timer = 0;

function came(item, id) {
  if (item.path || item.many || !id) complete = false;
  else ids.push(id);
  if (!item.many) timer ||= setTimeout(flush, 400);
}

function flush() {
  clearTimeout(timer);
  timer = 0;
  if (!ids.length && complete) return;
  const batch = ids;
  const wasComplete = complete;
  ids = [];
  complete = true;
  arrived(batch, wasComplete);
}
