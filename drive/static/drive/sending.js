// What all ways of sending a file share.

// How long to wait, in milliseconds, before each new try over a connection that was lost.
export const DELAYS = [300, 1000, 2000, 4000, 8000, 15000, 30000, 30000, 30000];

/** Return an Error with a `code` for the tray, and a sentence where the server said one. */
export function failure(code, message = "") {
  const error = new Error(message);
  error.code = code;
  return error;
}

/** Return a name for a request that nobody else gives. */
export function randomKey() {
  // randomUUID is there only on secure origins.
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, "0")).join("");
}
