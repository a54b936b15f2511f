// Drawing detections over a picture: boxes, outlines, turned boxes, poses, each class in a colour of its own.

const MOST_SIDE = 1600;
// Neighbouring classes get hues far from each other.
const GOLDEN_ANGLE = 137.508;
// Points of a pose of which the model is less sure are not drawn, as in the worker's own picture.
const LEAST_POINT = 0.5;

/** Draw `found` over `picture` on a canvas. `size` is that of the original, to which positions refer. */
export function draw(canvas, picture, size, found) {
  const { naturalWidth, naturalHeight } = picture;
  const shrink = Math.min(1, MOST_SIDE / Math.max(naturalWidth, naturalHeight));
  canvas.width = Math.round(naturalWidth * shrink);
  canvas.height = Math.round(naturalHeight * shrink);
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  const scale = canvas.width / size.width;
  const line = Math.max(2, Math.round(Math.max(canvas.width, canvas.height) / 300));
  // The surest last, so that it lies on top.
  for (const one of [...found].reverse()) drawOne(context, one, scale, line);
}

function drawOne(context, one, scale, line) {
  if (one.width === undefined) return;
  const colour = `hsl(${(one.class_id * GOLDEN_ANGLE) % 360} 85% 34%)`;
  context.lineWidth = line;
  context.strokeStyle = colour;
  context.fillStyle = colour;
  if (one.points?.length) outline(context, one.points, scale);
  // A turned box is its four points already.
  if (one.angle === undefined) {
    const left = (one.x - one.width / 2) * scale;
    const top = (one.y - one.height / 2) * scale;
    context.strokeRect(left, top, one.width * scale, one.height * scale);
  }
  for (const point of one.keypoints ?? []) dot(context, point, scale, line);
  write(context, one, scale, line);
}

function outline(context, points, scale) {
  context.beginPath();
  for (const { x, y } of points) context.lineTo(x * scale, y * scale);
  context.closePath();
  context.stroke();
  context.globalAlpha = 0.25;
  context.fill();
  context.globalAlpha = 1;
}

function dot(context, { x, y, confidence }, scale, line) {
  if (confidence !== undefined && confidence < LEAST_POINT) return;
  context.beginPath();
  context.arc(x * scale, y * scale, line * 1.5, 0, 2 * Math.PI);
  context.fill();
}

function write(context, one, scale, line) {
  const text = `${one.class} ${Math.round(one.confidence * 100)} %`;
  const height = Math.max(12, line * 6);
  context.font = `600 ${height}px sans-serif`;
  const width = context.measureText(text).width + height / 2;
  const left = Math.max(0, Math.min((one.x - one.width / 2) * scale, context.canvas.width - width));
  const above = (one.y - one.height / 2) * scale - height * 1.3;
  const top = above < 0 ? above + height * 1.3 : above;
  context.fillRect(left, top, width, height * 1.3);
  context.fillStyle = "#fff";
  context.fillText(text, left + height / 4, top + height);
}
