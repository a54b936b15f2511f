// A file's page: the arrow keys go to its neighbours, Escape back to the folder.
import { selectStem, startDialog } from "./dialog.js";

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.matches("input, textarea, select") || document.querySelector("dialog[open], .dropdown-menu.show")) {
    if (event.key === "Escape") document.querySelector("[data-cancel-rename]")?.click();
    return;
  }
  const way = { ArrowLeft: "[rel=prev]", ArrowRight: "[rel=next]" }[event.key];
  if (way) document.querySelector(`.drive-stage ${way}`)?.click();
});

document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "file-name") selectStem(document.getElementById("file-name"));
});
// A file that was moved in the dialog is shown where it now lies.
document.addEventListener("drive-gone", () => location.reload());

startDialog();
