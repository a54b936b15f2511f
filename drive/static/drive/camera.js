// Camera dialog: take photos and upload them.
import { add } from "./uploads.js";

const dialog = document.getElementById("drive-camera");
const view = dialog?.querySelector("video");
let stream = null;

/** Open the camera dialog on a click on `[data-camera]`, and upload each photo. */
export function startCamera() {
  if (!dialog) return;
  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-camera]")) open();
  });
  dialog.querySelector("[data-shoot]").addEventListener("click", shoot);
  dialog.querySelector("[data-camera-close]").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => {
    for (const track of stream?.getTracks() || []) track.stop();
    stream = view.srcObject = null;
  });
}

async function open() {
  try {
    // Browsers define mediaDevices only on secure origins.
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 } }, audio: false });
  } catch {
    const detail = { text: dialog.dataset.textDenied, level: "error" };
    document.dispatchEvent(new CustomEvent("toast", { detail }));
    return;
  }
  view.srcObject = stream;
  dialog.showModal();
}

function shoot() {
  if (!view.videoWidth) return;
  const canvas = document.createElement("canvas");
  canvas.width = view.videoWidth;
  canvas.height = view.videoHeight;
  canvas.getContext("2d").drawImage(view, 0, 0);
  const time = new Date().toLocaleString("sv").replace(/:/g, ".");
  canvas.toBlob(
    (blob) => {
      if (blob) add([{ file: new File([blob], `Camera ${time}.jpg`, { type: "image/jpeg" }), path: "" }]);
    },
    "image/jpeg",
    0.92,
  );
}
