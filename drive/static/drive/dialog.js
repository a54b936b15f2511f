// The page's one dialog: htmx puts a form into it, and it closes when that is done.

const dialog = document.getElementById("drive-dialog");

/** Open the dialog when a form has been put into it. */
export function startDialog() {
  if (!dialog) return;
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target === dialog && dialog.childElementCount) open();
  });
  document.addEventListener("drive-done", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    const outside = event.target === dialog;
    if (outside || event.target.closest("[data-close-dialog]")) {
      event.preventDefault();
      dialog.close();
    }
  });
  dialog.addEventListener("close", () => dialog.replaceChildren());
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
