// A folder's page: wires selection, dialog, uploads and drops to the listing.
import { startCamera } from "./camera.js";
import { startDialog } from "./dialog.js";
import { startDrag } from "./drag.js";
import { startDrops } from "./drop.js";
import { startKeys } from "./keys.js";
import { select, selectedIds, show, startSelection } from "./selection.js";
import { chooseFolder, startUploads } from "./uploads.js";

const listing = () => document.getElementById("listing");
const changed = () => document.body.dispatchEvent(new CustomEvent("drive-changed"));

/** Put files that have just come in before the others; where that is not all there is to show, fetch the whole. */
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

// Tiles that went elsewhere leave; the last one to go shows that the folder is empty.
document.addEventListener("drive-gone", (event) => {
  // What was moved is still found by a search.
  if (["search", "starred"].includes(listing().dataset.room)) {
    select(new Set());
    changed();
    return;
  }
  for (const id of event.detail.ids) document.getElementById(`tile-${id}`)?.remove();
  if (!listing().querySelector(".drive-tile")) changed();
  show();
});

let kept = new Set();
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id === "listing") kept = selectedIds();
});
document.addEventListener("htmx:afterSettle", () => {
  if (!kept.size) {
    show();
    return;
  }
  const ids = kept;
  kept = new Set();
  select(ids);
});

// A search acts on typing and on Enter. Leaving its field is no reason to search again.
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
  if (listing().dataset.room === "starred") changed();
});

startSelection();
startDrag();
startKeys();
startDialog();
startUploads(insert);
startDrops();
startCamera();
