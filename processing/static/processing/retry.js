// Retry delays of requests that a busy server refused.

const BUSY = [429, 503];
const MOST_TRIES = 5;
// Seconds. After a longer Retry-After the page shows the error and does not retry.
const LONGEST = 30;

/**
 * Return the milliseconds after which to retry a request, or null if it should not be retried. `refused` is the
 * number of earlier refusals. Delays grow, and have jitter, so that pages do not retry at the same time.
 */
export function retryDelay(answer, refused) {
  const seconds = Number(answer.headers.get("Retry-After"));
  if (!BUSY.includes(answer.status) || !(seconds > 0) || seconds > LONGEST || refused >= MOST_TRIES) return null;
  return seconds * 1000 * 2 ** refused * (1 + Math.random() / 2);
}
