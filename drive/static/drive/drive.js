// A folder's page: wires selection, dialog, uploads and drops to the listing.
import { startDialog } from "./dialog.js";
import { startDrops } from "./drop.js";
import { select, selectedIds, show, startSelection } from "./selection.js";
import { startUploads } from "./uploads.js";

const listing = () => document.getElementById("listing");
const changed = () => document.body.dispatchEvent(new CustomEvent("drive-changed"));

/** Put a file that has just come in before the others; where there is no list yet, fetch the whole. */
function insert(description) {
  if (listing().querySelector("[data-drive-empty]") || !listing().querySelector("#files > .drive-tile")) {
    changed();
    return;
  }
  window.htmx.swap("#files", description.tile, { swapStyle: "afterbegin", settleDelay: 0 });
}

// Tiles that went elsewhere leave; the last one to go shows that the folder is empty.
document.addEventListener("drive-gone", (event) => {
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

document.addEventListener("change", (event) => {
  if (event.target.id === "sort") event.target.form.submit();
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-choose-files]")) document.querySelector("#drive-upload [type=file]").click();
});

startSelection();
startDialog();
startUploads(insert);
startDrops();
