// A mask: which pixels of a picture are painted anew. It is kept as the steps that made it, so that undo is to leave
// out the last one. On a canvas what is marked is opaque and the rest transparent; nothing is in between.

const HALF = 128; // from here on alpha and brightness count as whole, as on the server

/** The steps that mark pixels of a picture of `width` x `height`.
 *
 * A step is {tool: "brush" | "eraser", size, points: [x, y, ...]} in pixels of the picture, {tool: "box", x, y, width,
 * height, erase}, {tool: "invert"}, {tool: "clear"} or {tool: "file", image}.
 */
export class Mask {
  #done = [];
  #undone = [];

  constructor(width, height) {
    this.width = width;
    this.height = height;
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  add(step) {
    this.#done.push(step);
    this.#undone = [];
  }

  undo() {
    if (this.canUndo) this.#undone.push(this.#done.pop());
  }

  redo() {
    if (this.canRedo) this.#done.push(this.#undone.pop());
  }

  /** Draw the mask in a colour, and return the share of pixels that it marks, from 0 to 1. */
  draw(context, colour = "#000000") {
    context.clearRect(0, 0, this.width, this.height);
    // What an earlier clear has taken away need not be drawn.
    const start = this.#done.findLastIndex((step) => step.tool === "clear") + 1;
    for (const step of this.#done.slice(start)) draw(context, step);
    const share = harden(context);
    tint(context, colour);
    return share;
  }

  /** The mask as the API takes it: a PNG as large as the picture, transparent where it is painted anew. */
  async forServer() {
    const context = this.#drawn();
    context.globalCompositeOperation = "xor";
    context.fillRect(0, 0, this.width, this.height);
    return toPng(context.canvas);
  }

  /** The mask as a file for people and for `dalle inpaint --mask`: white where it is painted anew, black elsewhere. */
  async forFile() {
    const context = this.#drawn("#ffffff");
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#000000";
    context.fillRect(0, 0, this.width, this.height);
    return toPng(context.canvas);
  }

  #drawn(colour) {
    const context = newContext(this.width, this.height);
    this.draw(context, colour);
    context.fillStyle = "#000000";
    return context;
  }
}

/** A canvas of this size, of which pixels are read. */
export function newContext(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas.getContext("2d", { willReadFrequently: true });
}

/** Draw one step, or what is new of a stroke since its number `from`, with soft edges. */
export function draw(context, step, from = 0) {
  context.save();
  context.fillStyle = context.strokeStyle = "#000000";
  if (step.tool === "box") {
    context.globalCompositeOperation = step.erase ? "destination-out" : "source-over";
    context.fillRect(step.x, step.y, step.width, step.height);
  } else if (step.tool === "invert") {
    context.globalCompositeOperation = "xor";
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  } else if (step.tool === "file") {
    context.drawImage(step.image, 0, 0);
  } else if (step.tool !== "clear") {
    context.globalCompositeOperation = step.tool === "eraser" ? "destination-out" : "source-over";
    drawStroke(context, step, from);
  }
  context.restore();
}

function drawStroke(context, { size, points }, from) {
  context.lineCap = context.lineJoin = "round";
  context.lineWidth = size;
  context.beginPath();
  // A line to itself has no length, and by the standard of the canvas nothing is drawn of it: a click makes a dot.
  const added = points.slice(from);
  if (added.every((value, k) => value === added[k % 2])) {
    context.arc(added[0], added[1], size / 2, 0, 2 * Math.PI);
    context.fill();
    return;
  }
  context.moveTo(added[0], added[1]);
  for (let k = 2; k < added.length; k += 2) context.lineTo(added[k], added[k + 1]);
  context.stroke();
}

/** Colour what is marked. */
export function tint(context, colour) {
  context.save();
  context.globalCompositeOperation = "source-in";
  context.fillStyle = colour;
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.restore();
}

/** Make every pixel opaque or transparent, and return the share of opaque ones. */
function harden(context) {
  const { width, height } = context.canvas;
  const pixels = context.getImageData(0, 0, width, height);
  const data = pixels.data;
  let marked = 0;
  for (let k = 3; k < data.length; k += 4) {
    data[k] = data[k] < HALF ? 0 : 255;
    marked += data[k];
  }
  context.putImageData(pixels, 0, 0);
  return marked / 255 / (width * height);
}

/** A step that marks what a mask file marks: what is transparent in it, or else what is white. Throws an Error. */
export async function readMaskFile(file, width, height) {
  const image = await createImageBitmap(file).catch(() => {
    throw new Error("This file is not a picture.");
  });
  if (image.width !== width || image.height !== height) {
    const sizes = `${image.width} × ${image.height} pixels, the picture ${width} × ${height}`;
    throw new Error(`A mask is as large as its picture: this one has ${sizes}.`);
  }
  return transparentPart(image) ?? marking(image, (data, k) => brightness(data, k) >= HALF);
}

/** A step that marks what is transparent in a picture; null if nothing is. */
export function transparentPart(image) {
  const step = marking(image, (data, k) => data[k + 3] < HALF);
  return step.marks ? step : null;
}

/** A step that marks the pixels of a picture for which `chosen(data, k)` holds; k is where a pixel begins in the data. */
function marking(image, chosen) {
  const context = newContext(image.naturalWidth ?? image.width, image.naturalHeight ?? image.height);
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, context.canvas.width, context.canvas.height);
  let marks = false;
  for (let k = 0; k < pixels.data.length; k += 4) {
    const marked = chosen(pixels.data, k);
    marks ||= marked;
    pixels.data[k + 3] = marked ? 255 : 0;
  }
  context.putImageData(pixels, 0, 0);
  return { tool: "file", image: context.canvas, marks };
}

function brightness(data, k) {
  return 0.299 * data[k] + 0.587 * data[k + 1] + 0.114 * data[k + 2];
}

function toPng(canvas) {
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The mask could not be written."))), "image/png");
  });
}
