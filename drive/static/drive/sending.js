// Shared by all kinds of uploads: retry delays, errors, idempotency keys.

// Milliseconds before each retry after a lost connection.
export const DELAYS = [300, 1000, 2000, 4000, 8000, 15000, 30000, 30000, 30000];

/** Return an Error with a `code` for the tray, and the server's message if there is one. */
export function failure(code, message = "") {
  const error = new Error(message);
  error.code = code;
  return error;
}

/** Return a random idempotency key. */
export function randomKey() {
  // Browsers define randomUUID only on secure origins.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");
}
