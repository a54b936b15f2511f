// Keyboard shortcuts of all drive pages: / focuses the search, ? lists all shortcuts.

const TYPING = "input:not([type=checkbox]), textarea, select, [contenteditable]";

/** Listen for shortcuts that do not depend on a selection. */
export function startKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches(TYPING)) return;
    if (document.querySelector("dialog[open]")) return;
    const wanted = { "/": "#drive-search", "?": "[data-keys]" }[event.key];
    const found = wanted && document.querySelector(wanted);
    if (!found) return;
    event.preventDefault();
    if (event.key === "/") found.select();
    else found.click();
  });
}
