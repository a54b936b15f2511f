// Sets the aspect ratio of a comparison slider to that of its first image, so that tall images fit the screen.

export function fit(compare) {
  const first = compare.querySelector('[slot="first"]');
  const apply = () => {
    const { naturalWidth, naturalHeight } = first;
    if (naturalWidth) compare.style.setProperty("--ratio", String(naturalWidth / naturalHeight));
  };
  first.addEventListener("load", apply);
  apply();
}

function fitAll(root) {
  root.querySelectorAll(".ipau-compare").forEach(fit);
}

document.addEventListener("htmx:afterSwap", (event) => fitAll(event.detail.target));
fitAll(document);
