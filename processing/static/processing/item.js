// One item of a job, on its page or in the dialog: comparison slider and filter of detections.

import "./fit.js";
import { Detections } from "./found.js";

function adopt(root) {
  const panel = root.querySelector("#found");
  if (!panel?.hasAttribute("data-narrows")) return;
  const before = root.querySelector("#item-before");
  const after = root.querySelector("#item-after");
  new Detections({ panel, before, after }).show(panel.querySelector("#found-json").textContent);
}

document.addEventListener("htmx:afterSwap", (event) => adopt(event.detail.target));
adopt(document);
