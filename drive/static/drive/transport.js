// How one file reaches the server: one request that carries it. A resumable way would replace this file only.

/**
 * Send a file. Returns { done, cancel }: a promise of the server's description of it, which fails with an
 * Error whose `code` is "cancelled", "offline", "signed-out" or the server's own, and a way to stop.
 */
export function send({ file, url, fields, token, onProgress }) {
  const xhr = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    xhr.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    xhr.addEventListener("load", () => settle(xhr, resolve, reject));
    xhr.addEventListener("error", () => reject(failure("offline")));
    xhr.addEventListener("abort", () => reject(failure("cancelled")));
  });
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  body.append("file", file, file.name);
  xhr.open("POST", url);
  xhr.setRequestHeader("Accept", "application/json");
  xhr.setRequestHeader("X-CSRFToken", token);
  xhr.send(body);
  return { done, cancel: () => xhr.abort() };
}

function settle(xhr, resolve, reject) {
  let body = null;
  try {
    body = JSON.parse(xhr.responseText);
  } catch {
    // A page instead of an answer: of the sign-in, or of a proxy.
  }
  if (xhr.status === 201 && body) resolve(body);
  else if (body?.detail) reject(failure(body.code || "refused", body.detail));
  else if (xhr.status === 413) reject(failure("large"));
  else reject(failure(xhr.status === 200 || xhr.status === 403 ? "signed-out" : "offline"));
}

function failure(code, message = "") {
  const error = new Error(message);
  error.code = code;
  return error;
}
