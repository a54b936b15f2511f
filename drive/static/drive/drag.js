// Move by drag and drop: tiles onto folders, the breadcrumb or the folder tree.
import { select, selectedIds } from "./selection.js";

let dragged = [];

const listing = () => document.getElementById("listing");
const place = (event) => event.target.closest?.("[data-drop-folder]");
const name = (id) => document.querySelector(`#tile-${CSS.escape(id)} .drive-check`)?.name;

/** Make tiles draggable. A selected tile drags the whole selection. */
export function startDrag() {
  document.addEventListener("dragstart", (event) => {
    const tile = event.target.closest?.("#listing .drive-tile[draggable=true]");
    if (!tile) return;
    const chosen = selectedIds();
    dragged = chosen.has(tile.dataset.id) ? [...chosen] : [tile.dataset.id];
    event.dataTransfer.effectAllowed = "move";
    // Firefox needs data to start a drag.
    event.dataTransfer.setData("text/plain", tile.querySelector(".drive-open").textContent);
    for (const id of dragged) document.getElementById(`tile-${id}`)?.classList.add("is-dragged");
  });
  document.addEventListener("dragover", (event) => {
    const target = takes(event);
    mark(target);
    if (!target) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "move";
  });
  document.addEventListener("drop", (event) => {
    const target = takes(event);
    if (!target) return;
    event.preventDefault();
    move(target.dataset.dropFolder);
  });
  document.addEventListener("dragend", () => {
    dragged = [];
    mark(null);
    for (const tile of document.querySelectorAll(".is-dragged")) tile.classList.remove("is-dragged");
  });
}

/** Return the folder under the pointer, unless it is being dragged. */
function takes(event) {
  const target = dragged.length ? place(event) : null;
  return target && !dragged.includes(target.dataset.dropFolder) ? target : null;
}

function mark(target) {
  for (const one of document.querySelectorAll(".is-drop-target")) {
    if (one !== target) one.classList.remove("is-drop-target");
  }
  target?.classList.add("is-drop-target");
}

function move(destination) {
  const values = { destination, file: [], folder: [] };
  for (const id of dragged) values[name(id)]?.push(id);
  select(new Set());
  window.htmx.ajax("POST", listing().dataset.moveUrl, { source: document.body, swap: "none", values });
}
