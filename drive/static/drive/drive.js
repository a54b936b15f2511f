// Page of a folder: connects selection, dialog, uploads and drops to the listing.
import { startCamera } from "./camera.js";
import { startDialog } from "./dialog.js";
import { startDrag } from "./drag.js";
import { startDrops } from "./drop.js";
import { startKeys } from "./keys.js";
import { select, selectedIds, show, startSelection } from "./selection.js";
import { chooseFolder, startUploads } from "./uploads.js";

const listing = () => document.getElementById("listing");
const changed = () => document.body.dispatchEvent(new CustomEvent("drive-changed"));

/** Insert tiles of new files at the start, or reload the listing if `complete` is false. */
async function insert(ids, complete) {
  const first = listing().querySelector("#files > .drive-tile");
  if (!complete || !first || ids.some((id) => document.getElementById(`tile-${id}`))) {
    changed();
    return;
  }
  const query = new URLSearchParams(ids.map((id) => ["file", id]));
  const answer = await fetch(`${document.getElementById("drive-upload").dataset.tiles}?${query}`);
  if (answer.ok) window.htmx.swap("#files", await answer.text(), { swapStyle: "afterbegin", settleDelay: 0 });
  else changed();
}

// Remove tiles of moved or trashed items, and reload the listing when none is left.
document.addEventListener("drive-gone", (event) => {
  // A search still finds moved items.
  if (["search", "starred"].includes(listing().dataset.section)) {
    select(new Set());
    changed();
    return;
  }
  for (const id of event.detail.ids) document.getElementById(`tile-${id}`)?.remove();
  if (!listing().querySelector(".drive-tile")) changed();
  show();
});

let selectedBefore = new Set();
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id === "listing") selectedBefore = selectedIds();
});
document.addEventListener("htmx:afterSettle", () => {
  if (!selectedBefore.size) {
    show();
    return;
  }
  const ids = selectedBefore;
  selectedBefore = new Set();
  select(ids);
});

// The search runs on typing and on Enter, not on leaving the field.
document.addEventListener(
  "change",
  (event) => {
    if (event.target.id === "drive-search") event.stopPropagation();
  },
  true,
);
document.addEventListener("change", (event) => {
  const form = event.target.form;
  if (form?.id === "drive-sort" || form?.matches("[data-submit-on-change]")) form.submit();
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-choose-files]")) document.querySelector("#drive-upload [type=file]").click();
  if (event.target.closest("[data-choose-folder]")) chooseFolder();
});

document.addEventListener("drive-starred", () => {
  if (listing().dataset.section === "starred") changed();
});

startSelection();
startDrag();
startKeys();
startDialog();
startUploads(insert);
startDrops();
startCamera();
