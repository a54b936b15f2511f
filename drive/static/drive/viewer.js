// Page of one file: next and previous without a page load, shortcuts, zoom, details, full screen.
import { selectStem, startDialog } from "./dialog.js";
import { startKeys } from "./keys.js";
import { Zoom } from "./zoom.js";

const DETAILS = "ipau-details";
const TYPING = "input, textarea, select";
// Elements that use the arrow keys themselves.
const OWN_ARROWS = "img-comparison-slider, video, audio";
const NAMES = { "+": "Plus", "=": "Plus" };

let zoom = null;

/** Replace the viewer with another file, by the URL of its page. */
function show(url) {
  window.htmx.ajax("GET", url, { target: "#viewer", swap: "innerHTML" });
}

function setUp() {
  zoom?.stop();
  const frame = document.querySelector("[data-zoomable]");
  zoom = frame ? new Zoom(frame, { swiped: step, changed: showScale }) : null;
  shapeCompare();
  showDetails();
  document.querySelector("[data-full-screen]")?.toggleAttribute("hidden", !document.fullscreenEnabled);
}

function step(rel) {
  document.getElementById(`step-${rel}`)?.click();
}

function showScale(percent) {
  const scale = document.getElementById("zoom-scale");
  if (scale && scale.textContent !== `${percent} %`) scale.textContent = `${percent} %`;
}

/** Set the aspect ratio of the compare slider, so that a tall image fits the screen. */
function shapeCompare() {
  const compare = document.querySelector("[data-compare]");
  const result = compare?.querySelector("[slot=second]");
  if (!result) return;
  const [width, height] = ["width", "height"].map((side) => Number(result.getAttribute(side)));
  if (width) compare.style.setProperty("--ratio", String(width / height));
}

// --- Details panel, with its state in local storage.

function wantsDetails() {
  try {
    return localStorage.getItem(DETAILS) !== "off";
  } catch {
    return true; // Storage may be disabled.
  }
}

function showDetails(on = wantsDetails()) {
  document.getElementById("drive-facts").hidden = !on;
  document.querySelector("[data-details]").setAttribute("aria-expanded", String(on));
}

function toggleDetails() {
  const on = document.getElementById("drive-facts").hidden;
  try {
    localStorage.setItem(DETAILS, on ? "on" : "off");
  } catch {
    // Without storage the state lasts for this file only.
  }
  showDetails(on);
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.zoom) zoom?.[button.dataset.zoom]();
  else if ("details" in button.dataset) toggleDetails();
  else if ("fullScreen" in button.dataset) toggleFullScreen();
});

// --- Keyboard shortcuts click the element that has the key.

function carrierOf(key) {
  const name = (NAMES[key] ?? key).toUpperCase();
  const all = document.querySelectorAll("#viewer [aria-keyshortcuts]");
  const carries = (one) => one.getAttribute("aria-keyshortcuts").toUpperCase().split(" ").includes(name);
  // Shared elements without a key are wrapped in an element with data-shortcut.
  return [...all].find(carries) ?? document.querySelector(`#viewer [data-shortcut="${CSS.escape(name)}"] button`);
}

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.target.matches(TYPING) || document.querySelector("dialog[open], .dropdown-menu.show")) {
    if (event.key === "Escape") document.querySelector("[data-cancel-rename]")?.click();
    return;
  }
  if (event.target.closest(OWN_ARROWS) && event.key.startsWith("Arrow")) return;
  const found = carrierOf(event.key);
  if (!found) return;
  event.preventDefault();
  found.click();
});

// --- After htmx updates.

document.addEventListener("htmx:afterSettle", (event) => {
  const { id } = event.detail.target;
  if (id !== "viewer" && id !== "stage") return;
  setUp();
  if (id === "viewer") document.getElementById("viewer-status").textContent = document.title;
});
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.detail.target.id === "file-name") selectStem(document.getElementById("file-name"));
});

// After a deletion show the next file, and the deleted one again on Undo. After a move show the file in its new
// folder.
const deleted = new Map();
let restored = "";

document.addEventListener("toast", (event) => {
  const form = event.target.closest?.("[data-delete]");
  if (form) deleted.set(event.detail.undoUrl, form.dataset.delete);
});
document.addEventListener("drive-gone", (event) => {
  const form = event.target.closest?.("[data-delete]");
  show(form ? form.dataset.following : location.href);
});
document.addEventListener("htmx:beforeOnLoad", (event) => {
  restored = deleted.get(event.detail.pathInfo.requestPath) ?? "";
});
document.addEventListener("drive-changed", () => show(restored || location.href));

setUp();
startDialog();
startKeys();
