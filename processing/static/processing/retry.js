// When to ask again for what a busy server has refused.

const BUSY = [429, 503];
const MOST_TRIES = 5;
// A longer pause is for the person, who reads why, and not for the page.
const LONGEST = 30;

/**
 * Return the milliseconds after which to send a request again, or null: it was answered, will not work, or has
 * been refused `refused` times before and that is enough. Pauses grow, and differ, so that pages which were
 * refused together do not come back together.
 */
export function retryDelay(answer, refused) {
  const seconds = Number(answer.headers.get("Retry-After"));
  if (!BUSY.includes(answer.status) || !(seconds > 0) || seconds > LONGEST || refused >= MOST_TRIES) return null;
  return seconds * 1000 * 2 ** refused * (1 + Math.random() / 2);
}
