// The page's one dialog: htmx puts a form into it, and it closes when that is done.

const dialog = document.getElementById("drive-dialog");

/** Open the dialog when a form has been put into it. */
export function startDialog() {
  if (!dialog) return;
  document.addEventListener("htmx:afterSwap", (event) => {
    // An answer that says it is done goes elsewhere in the page, and leaves the form where it is.
    const stays = event.detail.xhr?.getResponseHeader("HX-Reswap") === "none";
    if (event.detail.target === dialog && dialog.childElementCount && !stays) open();
  });
  document.addEventListener("drive-done", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    const outside = event.target === dialog;
    if (outside || event.target.closest("[data-close-dialog]")) {
      event.preventDefault();
      dialog.close();
    }
  });
  // Only then: htmx finds its place in the page by the form that it sent.
  dialog.addEventListener("close", () => dialog.replaceChildren());
  // Somebody may have been quicker than this script.
  if (dialog.childElementCount) open();
}

function open() {
  const heading = dialog.querySelector(".card-title");
  if (heading) dialog.setAttribute("aria-label", heading.textContent.trim());
  if (!dialog.open) dialog.showModal();
  selectStem(dialog);
}

/** Select a name up to its ending, which people seldom want to change. */
export function selectStem(root) {
  const field = root.querySelector("[data-select-stem]");
  if (!field) return;
  field.focus();
  const dot = field.value.lastIndexOf(".");
  field.setSelectionRange(0, dot > 0 ? dot : field.value.length);
}
