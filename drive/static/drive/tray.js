// The upload tray: a row for each upload, up to a limit.

const tray = document.getElementById("drive-tray");
const title = document.getElementById("drive-tray-title");
const list = tray?.querySelector("ul");
const more = document.getElementById("drive-tray-more");
const template = document.getElementById("drive-upload-row");

/** Connect the tray's buttons to `onPause(paused)`, `onRetry()` and `onClose()`. */
export function startTray({ onPause, onClose, onRetry }) {
  tray.querySelector("[data-tray-close]").addEventListener("click", onClose);
  tray.querySelector("[data-tray-retry]").addEventListener("click", onRetry);
  const fold = tray.querySelector("[data-tray-fold]");
  fold.addEventListener("click", () => {
    list.hidden = !list.hidden;
    fold.setAttribute("aria-expanded", String(!list.hidden));
  });
  const pause = tray.querySelector("[data-tray-pause]");
  pause.addEventListener("click", () => onPause(pause.getAttribute("aria-pressed") !== "true"));
}

/** Append a row to the list and return it. */
export function addRow(name, { onRetry, onPause, onCancel }) {
  const row = template.content.cloneNode(true).firstElementChild;
  row.querySelector(".drive-tray-name").textContent = name;
  row.querySelector("[data-retry]").addEventListener("click", onRetry);
  row.querySelector("[data-pause]").addEventListener("click", onPause);
  row.querySelector("[data-cancel]").addEventListener("click", onCancel);
  list.append(row);
  return row;
}

/** Show a state in a row: waiting, running, checking, lost, paused, done, skipped or failed (with a message). */
export function showState(row, state, sentence = "") {
  if (!row) return;
  const words = {
    done: tray.dataset.textUploaded,
    skipped: tray.dataset.textSkipped,
    paused: tray.dataset.textPaused,
    lost: tray.dataset.textAgain,
    checking: tray.dataset.textChecking,
  };
  row.dataset.state = state;
  row.querySelector(".drive-tray-state").textContent = sentence || words[state] || "";
  row.querySelector("[data-retry]").hidden = state !== "failed" && state !== "lost";
  const pause = row.querySelector("[data-pause]");
  pause.hidden = state !== "running" && state !== "paused";
  pause.textContent = state === "paused" ? tray.dataset.textResume : tray.dataset.textPause;
  row.querySelector("[data-cancel]").hidden = state === "done" || state === "skipped";
  if (state === "failed") row.scrollIntoView({ block: "nearest" });
}

export function showProgress(row, part) {
  if (row) row.querySelector("progress").value = part;
}

/** Show the total progress. */
export function showTotals({ total, ended, failed, busy, paused, hidden, unseen }) {
  const words = tray.dataset;
  if (busy) {
    title.textContent = words.textRunning.replace("%(done)s", ended).replace("%(total)s", total);
    if (paused) title.textContent += ` · ${words.textPaused}`;
  } else if (total) {
    title.textContent = failed ? words.textFailed : words.textDone;
  }
  const rest = [];
  if (hidden) rest.push(words.textMore.replace("%(count)s", hidden));
  if (unseen) rest.push(words.textMoreFailed.replace("%(count)s", unseen));
  more.textContent = rest.join(" ");
  more.hidden = !rest.length;
  tray.querySelector("[data-tray-retry]").hidden = busy || failed < 2;
  const pause = tray.querySelector("[data-tray-pause]");
  pause.hidden = !busy;
  pause.setAttribute("aria-pressed", String(paused));
  pause.querySelector("[data-icon-pause]").hidden = paused;
  pause.querySelector("[data-icon-play]").hidden = !paused;
}

export function openTray(sentence = "") {
  tray.hidden = false;
  if (sentence) title.textContent = sentence;
}

export function closeTray() {
  list.replaceChildren();
  tray.hidden = true;
}

/** Ask once what to do with taken names. Returns "" if the user cancels. */
export function askConflict(names) {
  const dialog = document.getElementById("drive-conflict");
  const shown = names.slice(0, 5).join(", ");
  document.getElementById("drive-conflict-names").textContent =
    names.length > 5 ? `${shown} … (${names.length})` : shown;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
  });
}
