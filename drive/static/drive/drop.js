// Upload files and folders that are dropped anywhere on the page.
import { add, reading } from "./uploads.js";

const veil = document.getElementById("drive-drop");

/** Upload dropped files, and show the drop target during a drag. */
export function startDrops() {
  if (!veil) return;
  let depth = 0;
  // A dragged image of this page also has the type “Files”.
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
  document.addEventListener("drop", async (event) => {
    if (own || !carriesFiles(event)) return;
    event.preventDefault();
    show(false);
    // Read all entries now: the browser clears them when this handler returns.
    const roots = rootsOf(event.dataTransfer);
    if (roots.some((root) => root.isDirectory)) reading();
    add(await filesIn(roots));
  });
}

function carriesFiles(event) {
  return Array.from(event.dataTransfer?.types || []).includes("Files");
}

function rootsOf(transfer) {
  return Array.from(transfer.items)
    .filter((item) => item.kind === "file")
    .map((item) => item.webkitGetAsEntry?.() || item.getAsFile())
    .filter(Boolean);
}

/** Return [{ file, path }] of all dropped files; `path` is "" for a file outside a dropped folder. */
async function filesIn(roots) {
  const found = [];
  for (const root of roots) {
    if (root instanceof File) found.push({ file: root, path: "" });
    else await walk(root, "", found);
  }
  return found;
}

async function walk(entry, above, found) {
  try {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file, path: above && `${above}${entry.name}` });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      // Browsers return up to 100 entries per call.
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!some.length) return;
      for (const inner of some) await walk(inner, `${above}${entry.name}/`, found);
    }
  } catch {
    // Deleted since the drop, or not readable: continue with the others.
  }
}
