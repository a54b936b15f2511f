// Keeps the API snippets of the page up to date with the settings.

const WRITERS = {
  json: (values, picture) => JSON.stringify({ image: picture, ...values }, null, 2),
  python: (values) => {
    const lines = Object.entries(values).map(([name, value]) => `        ${JSON.stringify(name)}: ${literal(value)},`);
    return ["{", '        "image": open("photo.jpg", "rb"),', ...lines, "    }"].join("\n");
  },
};

function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  return JSON.stringify(value);
}

/** Write all snippets. `picture` is the API URL of the selected file. */
export function writeSnippets(values, picture) {
  // Folders that are not set are left out.
  const set = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
  for (const middle of document.querySelectorAll("[data-snippet]")) {
    middle.textContent = WRITERS[middle.dataset.snippet](set, picture);
  }
}
