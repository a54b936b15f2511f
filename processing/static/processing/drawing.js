// Draws detections over an image: boxes, masks, oriented boxes and poses, with one color for each class.

const MOST_SIDE = 1600;
// Colors and labels match the annotated image of the worker: see `workers/vision/draw.py`.
const FIRST_HUE = 0.6;
const GOLDEN_TURN = 0.61803398875;
const SATURATION = 0.85;
const VALUES = [0.95, 0.8, 0.65];
const MASK_OPACITY = 0.45;
const MOST_LETTERS = 40;
// Keypoints below this confidence are not drawn, as in the annotated image of the worker.
const LEAST_POINT = 0.5;

/** Draw `detections` over `image` on a canvas. `size` is the size of the original, to which positions refer. */
export function draw(canvas, image, size, detections) {
  const { naturalWidth, naturalHeight } = image;
  const shrink = Math.min(1, MOST_SIDE / Math.max(naturalWidth, naturalHeight));
  canvas.width = Math.round(naturalWidth * shrink);
  canvas.height = Math.round(naturalHeight * shrink);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const scale = canvas.width / size.width;
  const line = Math.max(2, Math.round(Math.max(canvas.width, canvas.height) / 300));
  // The most confident last, so that it is on top.
  for (const one of [...detections].reverse()) drawOne(context, one, scale, line);
}

function drawOne(context, one, scale, line) {
  if (one.width === undefined) return;
  const color = colorOf(one.class_id);
  context.lineWidth = line;
  context.strokeStyle = `rgb(${color})`;
  context.fillStyle = `rgb(${color})`;
  if (one.points?.length) outline(context, one.points, scale);
  // The outline of an oriented box is already drawn from its four points.
  if (one.angle === undefined) {
    const left = (one.x - one.width / 2) * scale;
    const top = (one.y - one.height / 2) * scale;
    context.strokeRect(left, top, one.width * scale, one.height * scale);
  }
  for (const point of one.keypoints ?? []) dot(context, point, scale, line);
  write(context, one, color, scale, line);
}

function colorOf(classId) {
  const hue = (FIRST_HUE + classId * GOLDEN_TURN) % 1;
  const value = VALUES[Math.floor(classId / 8) % VALUES.length];
  // HSV to RGB.
  return [5, 3, 1].map((turn) => {
    const distance = (turn + hue * 6) % 6;
    return Math.round(255 * value * (1 - SATURATION * Math.max(0, Math.min(distance, 4 - distance, 1))));
  });
}

function outline(context, points, scale) {
  context.beginPath();
  for (const { x, y } of points) context.lineTo(x * scale, y * scale);
  context.closePath();
  context.stroke();
  context.globalAlpha = MASK_OPACITY;
  context.fill();
  context.globalAlpha = 1;
}

function dot(context, { x, y, confidence }, scale, line) {
  if (confidence !== undefined && confidence < LEAST_POINT) return;
  context.beginPath();
  context.arc(x * scale, y * scale, line * 1.5, 0, 2 * Math.PI);
  context.fill();
}

function write(context, one, [red, green, blue], scale, line) {
  const text = `${one.class.slice(0, MOST_LETTERS)} ${one.confidence.toFixed(2)}`;
  const height = Math.max(12, line * 6);
  context.font = `600 ${height}px sans-serif`;
  const width = context.measureText(text).width + height / 2;
  const left = Math.max(0, Math.min((one.x - one.width / 2) * scale, context.canvas.width - width));
  const above = (one.y - one.height / 2) * scale - height * 1.3;
  const top = above < 0 ? above + height * 1.3 : above;
  context.fillRect(left, top, width, height * 1.3);
  // Black text on bright colors, white on dark ones (Rec. 601 luma).
  context.fillStyle = 0.299 * red + 0.587 * green + 0.114 * blue > 128 ? "#000" : "#fff";
  context.fillText(text, left + height / 4, top + height);
}
