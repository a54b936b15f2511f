// Direct upload of a large file to the site's bucket: in parts, with presigned URLs.
import { DELAYS, failure, randomKey } from "./sending.js";

const AT_ONCE = 3;
// Presigned URLs expire after minutes: request a few at a time.
const SIGNED = 6;
const PART_TRIES = 2;
// Milliseconds between two polls of a worker's check.
const CHECK = { first: 300, longest: 3000 };

/**
 * Send a file. Parameters and result as `send` of transport.js; `onCheck` is called when all parts have arrived
 * and the check begins.
 */
export function sendDirect({ file, path, folder, onConflict, url, token, onProgress, onWait, onCheck }) {
  const memory = remember(["ipau-direct", url, folder, path, file.name, file.size, file.lastModified].join("|"));
  const key = randomKey();
  let finish;
  const done = new Promise((resolve, reject) => (finish = { resolve, reject }));
  let running = null;
  let canceled = false;

  async function ask(address, { fields = null, signal = undefined, query = false } = {}) {
    const body = fields && new URLSearchParams(fields);
    const options = query ? {} : { method: "POST", body: body || new URLSearchParams() };
    let answer;
    try {
      answer = await fetch(address, { ...options, signal, headers: { "X-CSRFToken": token } });
    } catch {
      throw passing();
    }
    if (answer.redirected || answer.status === 401 || answer.status === 403) throw failure("signed-out");
    if (answer.ok) return answer.status === 204 ? null : answer.json();
    throw await refusal(answer);
  }

  /** Resume the unfinished upload of an earlier page, or begin a new one. */
  async function open(signal) {
    const earlier = memory.get();
    if (earlier) {
      try {
        const found = await ask(`${url}${earlier}/`, { query: true, signal });
        if (found.stage === "receiving" || found.stage === "checking") return found;
      } catch (error) {
        if (error.status !== 404) throw error;
      }
      memory.forget();
    }
    const length = file.size;
    const fields = { name: file.name, path, folder, length, on_conflict: onConflict, key };
    // Do not abort this request: the id is needed to resume or delete the upload.
    const begun = await ask(url, { fields });
    if (canceled) await ask(`${url}${begun.id}/discard/`);
    else memory.set(begun.id);
    return begun;
  }

  async function transfer(signal, onPart) {
    let upload = await open(signal);
    if (signal.aborted) throw passing();
    const address = `${url}${upload.id}/`;
    if (upload.stage === "receiving") {
      await sendParts(upload, address, signal, onPart);
      upload = await ask(`${address}finish/`, { signal });
    }
    for (let wait = CHECK.first; upload.stage === "checking"; wait = Math.min(wait * 1.5, CHECK.longest)) {
      onCheck();
      await pause(wait, signal);
      upload = await ask(address, { query: true, signal });
    }
    if (upload.stage === "refused") throw failure("refused", upload.reason);
    return upload.file;
  }

  async function sendParts(upload, address, signal, onPart) {
    const there = new Set(upload.received);
    const todo = [];
    for (let number = 1; number <= upload.parts; number += 1) if (!there.has(number)) todo.push(number);
    const sizeOf = (number) => Math.min(upload.part_size, file.size - (number - 1) * upload.part_size);
    let sent = [...there].reduce((sum, number) => sum + sizeOf(number), 0);
    const under = new Map();
    const tell = () => onProgress((sent + [...under.values()].reduce((sum, n) => sum + n, 0)) / file.size);
    if (sent) tell();

    // One part that finally fails ends the others too: all resume together.
    const lanes = new AbortController();
    const stop = () => lanes.abort();
    signal.addEventListener("abort", stop, { once: true });
    let signed = [];
    let signing = null;

    async function next() {
      while (!signed.length && todo.length) {
        signing ||= sign(todo.splice(0, SIGNED)).finally(() => (signing = null));
        await signing;
      }
      return signed.shift();
    }

    async function sign(numbers) {
      const fields = new URLSearchParams(numbers.map((number) => ["number", number]));
      const answer = await ask(`${address}parts/`, { fields, signal: lanes.signal });
      signed.push(...answer.parts);
    }

    async function lane() {
      for (let part = await next(); part; part = await next()) {
        const { number } = part;
        const start = (number - 1) * upload.part_size;
        const bytes = file.slice(start, start + part.size);
        const progress = (loaded) => {
          under.set(number, loaded);
          tell();
        };
        await putAgain(part.url, bytes, lanes.signal, progress);
        under.delete(number);
        sent += part.size;
        onPart();
        tell();
      }
    }

    try {
      await Promise.all(Array.from({ length: AT_ONCE }, lane));
    } finally {
      stop();
      signal.removeEventListener("abort", stop);
    }
  }

  /** Retry until the upload is complete, refused or stopped. */
  async function run() {
    const own = (running = new AbortController());
    let tries = 0;
    for (;;) {
      try {
        // Progress resets the retries.
        finish.resolve(await transfer(own.signal, () => (tries = 0)));
        memory.forget();
        return;
      } catch (error) {
        if (own.signal.aborted) return;
        if (!error.passing || tries >= DELAYS.length) {
          if (error.code === "refused") memory.forget();
          finish.reject(error);
          return;
        }
        onWait();
        await pause(DELAYS[tries], own.signal).catch(() => {});
        if (own.signal.aborted) return;
        tries += 1;
      }
    }
  }

  run();
  return {
    done,
    pause: () => running.abort(),
    resume: () => {
      running.abort();
      run();
    },
    cancel: () => {
      canceled = true;
      running.abort();
      const begun = memory.get();
      memory.forget();
      // If this request fails, the server's sweep deletes the upload.
      if (begun) ask(`${url}${begun}/discard/`).catch(() => {});
      finish.reject(failure("canceled"));
    },
  };
}

/** Send a part, with a few retries before the connection counts as lost. */
async function putAgain(url, bytes, signal, onProgress) {
  for (let tries = 1; ; tries += 1) {
    try {
      return await put(url, bytes, signal, onProgress);
    } catch (error) {
      onProgress(0);
      if (signal.aborted || tries === PART_TRIES) throw error;
      await pause(DELAYS[tries], signal);
    }
  }
}

function put(url, bytes, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    request.upload.addEventListener("progress", (event) => onProgress(event.loaded));
    // Also for an expired URL: the next attempt requests a new one.
    request.addEventListener("load", () => (request.status === 200 ? resolve() : reject(passing())));
    for (const kind of ["error", "timeout", "abort"]) request.addEventListener(kind, () => reject(passing()));
    signal.addEventListener("abort", () => request.abort(), { once: true });
    if (signal.aborted) reject(passing());
    else request.send(bytes);
  });
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    const stop = () => {
      clearTimeout(timer);
      reject(passing());
    };
    if (signal.aborted) stop();
    else signal.addEventListener("abort", stop, { once: true });
  });
}

/** Return whether a retry may help: lost connection, restarting server, missing parts. */
function passing() {
  return Object.assign(failure("offline"), { passing: true });
}

async function refusal(answer) {
  const body = await answer.json().catch(() => null);
  const again = answer.status === 409 || answer.status === 429 || answer.status >= 500;
  const error = again ? passing() : failure("refused", body?.detail);
  return Object.assign(error, { status: answer.status });
}

/** Store what a later page needs to resume. Without storage, it starts from the beginning. */
function remember(key) {
  let kept = null;
  const storage = (call) => {
    try {
      return call(window.localStorage);
    } catch {
      return null;
    }
  };
  kept = storage((all) => all.getItem(key));
  return {
    get: () => kept,
    set: (id) => {
      kept = id;
      storage((all) => all.setItem(key, id));
    },
    forget: () => {
      kept = null;
      storage((all) => all.removeItem(key));
    },
  };
}
