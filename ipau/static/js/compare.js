// Accessible role and value of img-comparison-slider, for screen readers. It handles keys itself.

function describe(slider) {
  const value = Math.round(slider.value ?? 50);
  slider.setAttribute("aria-valuenow", String(value));
  slider.setAttribute("aria-valuetext", `${value} %`);
}

function adopt(slider) {
  if (slider.getAttribute("role") === "slider") return;
  slider.setAttribute("role", "slider");
  slider.setAttribute("aria-valuemin", "0");
  slider.setAttribute("aria-valuemax", "100");
  slider.addEventListener("slide", () => describe(slider));
  describe(slider);
}

function adoptAll(root) {
  if (root.matches?.("img-comparison-slider")) adopt(root);
  root.querySelectorAll("img-comparison-slider").forEach(adopt);
}

customElements.whenDefined("img-comparison-slider").then(() => {
  adoptAll(document);
  document.addEventListener("htmx:load", (event) => adoptAll(event.detail.elt));
});
