// Files dropped anywhere on the page.
import { add } from "./uploads.js";

const veil = document.getElementById("drive-drop");

/** Take files that are dropped on the page, and show meanwhile that it takes them. */
export function startDrops() {
  if (!veil) return;
  let depth = 0;
  // A picture of this page that is dragged also calls itself a file.
  let own = false;
  document.addEventListener("dragstart", () => (own = true));
  document.addEventListener("dragend", () => (own = false));
  const show = (on) => {
    depth = on ? depth : 0;
    veil.hidden = !on;
  };
  document.addEventListener("dragenter", (event) => {
    if (own || !carriesFiles(event)) return;
    depth += 1;
    show(true);
  });
  document.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    if (!depth) show(false);
  });
  document.addEventListener("dragover", (event) => {
    if (own || !carriesFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
  });
  document.addEventListener("drop", (event) => {
    if (own || !carriesFiles(event)) return;
    event.preventDefault();
    show(false);
    add(filesOf(event.dataTransfer));
  });
}

function carriesFiles(event) {
  return Array.from(event.dataTransfer?.types || []).includes("Files");
}

/** Folders have no bytes of their own: say so rather than send nothing. */
function filesOf(transfer) {
  const files = Array.from(transfer.files);
  const entries = Array.from(transfer.items || [])
    .filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry?.());
  const plain = files.filter((_, index) => !entries[index]?.isDirectory);
  if (plain.length < files.length) {
    const text = document.getElementById("drive-tray").dataset.textFolder;
    document.dispatchEvent(new CustomEvent("toast", { detail: { text, level: "warning" } }));
  }
  return plain;
}
