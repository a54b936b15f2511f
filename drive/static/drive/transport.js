// Upload of one file, resumable with tus. Small files take one request; large ones go directly to the site's
// bucket, if it has one.
import { sendDirect } from "./direct.js";
import { DELAYS, failure, randomKey } from "./sending.js";

const SMALL = 4 * 1024 * 1024;
// Proxies in front of a server may limit the size of a request.
const CHUNK = 16 * 1024 * 1024;

/**
 * Send a file. `path` is its path below the folder, or "". Returns { done, pause, resume, cancel }. `done` is a
 * promise of the new file's id; it rejects with an Error with the `code` "canceled", "offline", "signed-out" or a
 * code of the server. `onWait` is called when the connection is lost and will be retried, `onCheck` when all
 * bytes are sent and the check begins. `direct` is { url, least }: files of at least `least` bytes go to the
 * bucket; null if the site has none.
 */
export function send({ direct, ...how }) {
  return direct && how.file.size >= direct.least ? sendDirect({ ...how, url: direct.url }) : sendByTus(how);
}

function sendByTus({ file, path, folder, onConflict, url, token, onProgress, onWait }) {
  const outcome = Promise.withResolvers ? Promise.withResolvers() : withResolvers();
  const small = file.size <= SMALL;
  const upload = new window.tus.Upload(file, {
    endpoint: url,
    chunkSize: CHUNK,
    retryDelays: DELAYS,
    uploadDataDuringCreation: small,
    storeFingerprintForResuming: !small,
    removeFingerprintOnSuccess: true,
    fingerprint: async () => ["ipau", url, folder, path, file.name, file.size, file.lastModified].join("|"),
    metadata: { filename: file.name, relativePath: path, folder, onConflict },
    // A repeated first request must not create a second file.
    headers: { "X-CSRFToken": token, "Idempotency-Key": randomKey() },
    onProgress: (sent, total) => onProgress(total ? sent / total : 0),
    onShouldRetry: (error) => {
      const again = mayPass(error);
      if (again) onWait();
      return again;
    },
    onSuccess: ({ lastResponse }) => outcome.resolve(fileOf(lastResponse)),
    onError: (error) => outcome.reject(explain(error)),
  });
  let stopped = false;
  begin(upload, small, () => stopped);
  return {
    done: outcome.promise,
    pause: () => {
      stopped = true;
      upload.abort();
    },
    resume: () => {
      stopped = false;
      upload.abort().then(() => upload.start());
    },
    cancel: () => {
      stopped = true;
      upload.abort(Boolean(upload.url)).catch(() => {});
      outcome.reject(failure("canceled"));
    },
  };
}

/** Resume the unfinished upload of an earlier page if the same file is chosen again. */
async function begin(upload, small, isStopped) {
  if (!small) {
    const earlier = await upload.findPreviousUploads();
    if (earlier.length) upload.resumeFromPreviousUpload(earlier[0]);
  }
  if (!isStopped()) upload.start();
}

function statusOf(error) {
  return error.originalResponse?.getStatus() || 0;
}

/** Return whether a retry may help: lost connection, restarting server, locked upload. */
function mayPass(error) {
  const status = statusOf(error);
  return status === 0 || status === 409 || status === 423 || status === 429 || status >= 500;
}

function fileOf(response) {
  return (response?.getHeader("Content-Location") || "").split("/").pop();
}

function explain(error) {
  const status = statusOf(error);
  if (!status) return failure("offline");
  let body = null;
  try {
    body = JSON.parse(error.originalResponse.getBody());
  } catch {
    // A proxy returned a page instead of JSON.
  }
  if (status === 401 || status === 403) return failure("signed-out");
  if (body?.detail) return failure("refused", body.detail);
  return failure(status === 413 ? "large" : "offline");
}

function withResolvers() {
  const deferred = {};
  deferred.promise = new Promise((resolve, reject) => Object.assign(deferred, { resolve, reject }));
  return deferred;
}
