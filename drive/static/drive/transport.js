// How one file reaches the server: resumably, by tus. The smallest files take a single request; the largest go
// into the site's bucket, where it has one.
import { sendDirect } from "./direct.js";
import { DELAYS, failure, randomKey } from "./sending.js";

const SMALL = 4 * 1024 * 1024;
// Proxies in front of a server may limit what one request carries.
const CHUNK = 16 * 1024 * 1024;

/**
 * Send a file. `path` is "" or leads to it below the folder. Returns { done, pause, resume, cancel }: a promise
 * of the id of the file that it became, which fails with an Error whose `code` is "cancelled", "offline",
 * "signed-out" or the server's own, and ways to stop for a while or for good. `onWait` tells that the
 * connection was lost and is tried again, `onCheck` that all has been sent and is being checked. `direct` is
 * { url, least }: where, and from how many bytes on, files go into the bucket; null where they never do.
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
    // A repeated beginning, whose first answer got lost, must not make a second file.
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
      outcome.reject(failure("cancelled"));
    },
  };
}

/** Go on with what an earlier page left unfinished, where the same file is chosen again. */
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

/** Lost connections, a server that starts again, and another request that still holds the upload. */
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
    // A page instead of an answer, from a proxy.
  }
  if (status === 401 || status === 403) return failure("signed-out");
  if (body?.detail) return failure("refused", body.detail);
  return failure(status === 413 ? "large" : "offline");
}

function withResolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
