// How a large file reaches the bucket of a site that has one: in parts, to addresses that the site signs.
import { DELAYS, failure, randomKey } from "./sending.js";

const AT_ONCE = 3;
// An address is good for minutes only: a few are fetched at a time.
const SIGNED = 6;
const PART_TRIES = 2;
// How long to wait before asking again whether a worker is through with it.
const CHECK = { first: 300, longest: 3000 };

/**
 * Send a file. Takes and returns what `send` of transport.js does; `onCheck` tells that all of it is there and
 * is being checked.
 */
export function sendDirect({ file, path, folder, onConflict, url, token, onProgress, onWait, onCheck }) {
  const memory = remember(["ipau-direct", url, folder, path, file.name, file.size, file.lastModified].join("|"));
  const key = randomKey();
  let finish;
  const done = new Promise((resolve, reject) => (finish = { resolve, reject }));
  let running = null;
  let cancelled = false;

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

  /** Go on with what an earlier page left unfinished, or begin. */
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
    // Not to be cut off: what is begun must be known, to go on with it or to give it up.
    const begun = await ask(url, { fields });
    if (cancelled) await ask(`${url}${begun.id}/discard/`);
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

    // One part that fails for good ends the others too: they all go on together.
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

  /** Try until it is there, it is refused, or somebody stops it. */
  async function run() {
    const own = (running = new AbortController());
    let tries = 0;
    for (;;) {
      try {
        // Who gets on has not lost the connection for good.
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
      cancelled = true;
      running.abort();
      const begun = memory.get();
      memory.forget();
      // What does not arrive is swept.
      if (begun) ask(`${url}${begun}/discard/`).catch(() => {});
      finish.reject(failure("cancelled"));
    },
  };
}

/** Send a part; where that fails, a few times more before the connection counts as lost. */
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
    // An address that has run out, too: the next one is fetched with the next try.
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

/** What may go better next time: a lost connection, a server that starts again, parts that are missing. */
function passing() {
  return Object.assign(failure("offline"), { passing: true });
}

async function refusal(answer) {
  const body = await answer.json().catch(() => null);
  const again = answer.status === 409 || answer.status === 429 || answer.status >= 500;
  const error = again ? passing() : failure("refused", body?.detail);
  return Object.assign(error, { status: answer.status });
}

/** What a later page needs to know to go on. Without storage, it begins again. */
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
