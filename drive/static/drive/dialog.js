// Dialog of the page: htmx inserts a form, and the dialog closes after its success.

const dialog = document.getElementById("drive-dialog");

/** Open the dialog when htmx has inserted a form. */
export function startDialog() {
  if (!dialog) return;
  document.addEventListener("htmx:afterSwap", (event) => {
    // A response of success updates other parts of the page and leaves the form in place.
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
  // Clear it afterwards: htmx needs the sent form to find its target.
  dialog.addEventListener("close", () => dialog.replaceChildren());
  // htmx may have inserted a form before this script ran.
  if (dialog.childElementCount) open();
}

function open() {
  const heading = dialog.querySelector(".card-title");
  if (heading) dialog.setAttribute("aria-label", heading.textContent.trim());
  if (!dialog.open) dialog.showModal();
  selectStem(dialog);
}

/** Select a name without its suffix, which users rarely change. */
export function selectStem(root) {
  const field = root.querySelector("[data-select-stem]");
  if (!field) return;
  field.focus();
  const dot = field.value.lastIndexOf(".");
  field.setSelectionRange(0, dot > 0 ? dot : field.value.length);
}
