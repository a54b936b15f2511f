// The API calls of the page, kept at the settings as they stand.

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

/** `picture` is the address of the chosen file in the API. */
export function writeSnippets(values, picture) {
  // A folder that was not chosen need not be said.
  const given = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null));
  for (const middle of document.querySelectorAll("[data-snippet]")) {
    middle.textContent = WRITERS[middle.dataset.snippet](given, picture);
  }
}
