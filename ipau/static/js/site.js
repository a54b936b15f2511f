// Scripts of every page: theme menu, toasts, errors of htmx requests, copy buttons.

const region = document.getElementById("toasts");
const LIFE = 6000;

/** Show a toast. `level`: success, info, warning or error. The Undo button sends a POST to `undoUrl`. */
export function toast({ text, level = "info", undoUrl = "" }) {
  if (!text) return;
  const copy = document.getElementById("toast-template").content.cloneNode(true);
  const note = copy.querySelector(".toast");
  note.dataset.level = level;
  note.querySelector("[data-toast-text]").textContent = text;
  if (undoUrl) note.querySelector("[data-toast-close]").before(undoButton(undoUrl, note));
  region.append(note);
  expire(note);
}

function undoButton(url, note) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn btn-sm";
  button.textContent = region.dataset.textUndo;
  button.addEventListener("click", () => {
    note.remove();
    // Use htmx, so that the HX-Trigger events of the response reach the page.
    window.htmx.ajax("POST", url, { source: document.body, swap: "none" });
  });
  return button;
}

// Errors stay until closed. Other toasts disappear, unless hovered or focused.
function expire(note) {
  if (note.dataset.level === "error") return;
  setTimeout(() => {
    if (note.matches(":hover, :focus-within")) expire(note);
    else note.remove();
  }, LIFE);
}

function failureText(xhr) {
  const type = xhr.getResponseHeader("Content-Type") || "";
  const fallback =
    { 403: region.dataset.textDenied, 404: region.dataset.textMissing }[xhr.status] || region.dataset.textFailed;
  if (type.includes("json")) {
    try {
      const body = JSON.parse(xhr.responseText);
      return body.detail || body.message || fallback;
    } catch {
      return fallback;
    }
  }
  // Do not show a whole page: it comes from a proxy or an error view without htmx support.
  if (!xhr.responseText.trim() || /<(!doctype|html|body)/i.test(xhr.responseText)) return fallback;
  const text = new DOMParser().parseFromString(xhr.responseText, "text/html").body.textContent.trim();
  return text && text.length <= 400 ? text : fallback;
}

function showTheme() {
  for (const button of document.querySelectorAll("[data-theme]")) {
    const on = button.dataset.theme === window.ipauTheme.chosen();
    button.setAttribute("aria-pressed", String(on));
    button.classList.toggle("active", on);
  }
}

async function copyText(button) {
  const source = button.dataset.copyFrom && document.querySelector(button.dataset.copyFrom);
  const text = source ? (source.value ?? source.textContent) : button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Insecure origins have no clipboard API. Select the text, so that the user can press Ctrl-C.
    source?.select?.();
    return;
  }
  const label = button.querySelector("[data-copy-label]") || button;
  const before = label.textContent;
  label.textContent = button.dataset.copied || before;
  setTimeout(() => (label.textContent = before), 2000);
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.theme) {
    window.ipauTheme.choose(button.dataset.theme);
    showTheme();
  } else if ("toastClose" in button.dataset) {
    button.closest(".toast").remove();
  } else if ("copy" in button.dataset || "copyFrom" in button.dataset) {
    copyText(button);
  }
});

// The server sends HX-Trigger: {"toast": {"text": …, "level": …, "undoUrl": …}}. Scripts may dispatch the same event.
document.addEventListener("toast", (event) => toast(event.detail));

document.addEventListener("htmx:responseError", (event) => {
  toast({ text: failureText(event.detail.xhr), level: "error" });
});
for (const name of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, () => toast({ text: region.dataset.textOffline, level: "error" }));
}

// If the session has expired, the response is the sign-in page. Go there instead of swapping it into the page.
document.addEventListener("htmx:beforeSwap", (event) => {
  const login = document.body.dataset.loginUrl;
  const url = event.detail.xhr.responseURL;
  if (login && url && new URL(url).pathname === login && location.pathname !== login) {
    event.detail.shouldSwap = false;
    location.assign(`${login}?next=${encodeURIComponent(location.pathname + location.search)}`);
  }
});

showTheme();
region.querySelectorAll(".toast").forEach(expire);
window.ipau = { toast };
