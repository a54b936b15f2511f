// One picture of a job, on its page or in the dialog: the slider's shape, and what a model found, narrowed.

import "./fit.js";
import { Found } from "./found.js";

function adopt(root) {
  const panel = root.querySelector("#found");
  if (!panel?.hasAttribute("data-narrows")) return;
  const before = root.querySelector("#item-before");
  const after = root.querySelector("#item-after");
  new Found({ panel, before, after }).show(panel.querySelector("#found-json").textContent);
}

document.addEventListener("htmx:afterSwap", (event) => adopt(event.detail.target));
adopt(document);
