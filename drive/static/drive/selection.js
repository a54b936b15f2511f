// Selection of tiles: checkbox, Shift for a range, Ctrl or Cmd to add one, Ctrl-A for all, Esc for none.
// The checkboxes hold the state, so that forms send the selection and keyboards can change it.

let anchor = null;

const root = () => document.getElementById("listing");
const boxes = () => Array.from(document.querySelectorAll("#listing .drive-check"));
const boxOf = (tile) => tile?.querySelector(".drive-check");

/** Listen for selection events on the document, because htmx replaces the listing. */
export function startSelection() {
  document.addEventListener("click", onClick);
  document.addEventListener("change", (event) => {
    if (event.target.matches?.("#listing .drive-check")) show();
  });
  document.addEventListener("keydown", onKey);
  // Keep Shift from selecting text.
  document.addEventListener("mousedown", (event) => {
    if (event.shiftKey && event.target.closest("#listing .drive-tile")) event.preventDefault();
  });
  show();
}

/** Show the selection on the tiles and in the toolbar. */
export function show() {
  const listing = root();
  if (!listing) return;
  const chosen = boxes().filter((box) => box.checked);
  for (const box of boxes()) box.closest(".drive-tile").classList.toggle("is-selected", box.checked);
  listing.classList.toggle("is-selecting", chosen.length > 0);
  const count = listing.querySelector("[data-count]");
  if (count.textContent !== String(chosen.length)) count.textContent = chosen.length;
}

/** Return the selected ids, to restore the selection after a reload of the listing. */
export function selectedIds() {
  return new Set(boxes().filter((box) => box.checked).map((box) => box.value));
}

/** Select the tiles with these ids, if they exist. */
export function select(ids) {
  for (const box of boxes()) box.checked = ids.has(box.value);
  show();
}

function onClick(event) {
  if (event.target.closest("[data-clear-selection]")) {
    select(new Set());
    return;
  }
  const tile = event.target.closest("#listing .drive-tile");
  if (!tile || event.target.closest(".drive-menu, .drive-star")) return;
  const box = boxOf(tile);
  if (event.target === box) {
    mark(box, event.shiftKey, box.checked);
    return;
  }
  const selecting = root().classList.contains("is-selecting");
  if (event.shiftKey || event.ctrlKey || event.metaKey || selecting) {
    event.preventDefault();
    mark(box, event.shiftKey, event.shiftKey || !box.checked);
  } else if (!event.target.closest("a")) {
    tile.querySelector("a.drive-open")?.click();
  }
}

function mark(box, range, on) {
  const all = boxes();
  const from = anchor ? all.findIndex((other) => other.value === anchor) : -1;
  if (range && from >= 0) {
    const to = all.indexOf(box);
    for (const one of all.slice(Math.min(from, to), Math.max(from, to) + 1)) one.checked = on;
  } else {
    box.checked = on;
  }
  anchor = box.value;
  show();
}

function onKey(event) {
  if (!root() || event.target.matches("input:not([type=checkbox]), textarea, select, [contenteditable]")) return;
  if (document.querySelector("dialog[open], .dropdown-menu.show")) return;
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "a" && boxes().length) {
    event.preventDefault();
    for (const box of boxes()) box.checked = true;
    show();
  } else if (event.key === "Escape") {
    select(new Set());
  } else if (event.key === "Delete" && selectedIds().size) {
    root().querySelector("[data-delete-selection]")?.click();
  }
}
