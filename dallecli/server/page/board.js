// What a mask is drawn on: a picture, one canvas over it, and a frame for what is to be painted beyond its edges.

import { h } from "./dom.js";
import { draw, newContext, tint } from "./mask.js";

const SMALLEST = 0.125; // how small and how large a pixel of the picture is shown
const LARGEST = 32;
const ZOOM_STEP = 1.25;
const FINE = 3; // a brush thinner than this marks pixels whose middle it is led to
const ERASING = [2, 5]; // the numbers of the right button, and of that at a pen's other end

/** A picture that can be drawn on. `changed` is called with the share that is marked, whenever it changes. */
export class Board {
  tool = "brush";
  #colour = "#ff00a0";
  #size = 32;
  #scale = 1;
  #fits = true;
  #edges = { left: 0, top: 0, right: 0, bottom: 0 };
  #stroke = null;
  #box = null;
  #pointers = new Map();
  #pan = null;

  constructor(image, mask, changed) {
    this.mask = mask;
    this.changed = changed;
    this.image = image;
    this.context = newContext(mask.width, mask.height);
    this.canvas = this.context.canvas;
    this.canvas.className = "mask";
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", "The picture, and what of it is marked");
    this.cursor = h("div", { className: "cursor", hidden: true });
    this.band = h("div", { className: "band", hidden: true });
    this.sheet = h("div", { className: "sheet" }, image, this.canvas, this.cursor, this.band);
    this.shown = h("img", { className: "preview", alt: "", hidden: true });
    this.frame = h("div", { className: "frame" }, this.sheet, this.shown);
    this.element = h("div", { className: "board" }, this.frame);
    this.#listen();
  }

  get scale() {
    return this.#scale;
  }

  set size(pixels) {
    this.#size = pixels;
    this.#shape(this.cursor, null, null, pixels, pixels);
  }

  set colour(value) {
    this.#colour = value;
    this.redraw();
  }

  /** The pixels that are to be added at each edge. */
  set edges(edges) {
    this.#edges = edges;
    this.#lay();
  }

  /** Show another picture over the frame, which may be drawn through; null shows what is marked again. */
  preview(url) {
    this.shown.hidden = url === null;
    if (url !== null) this.shown.src = url;
  }

  redraw() {
    this.changed(this.mask.draw(this.context, this.#colour));
  }

  /** Do one step, as if it had been drawn. */
  apply(step) {
    this.mask.add(step);
    this.redraw();
  }

  /** Show the whole picture, and go on doing so when there is more or less room. */
  fit() {
    this.#fits = true;
    this.#lay();
  }

  /** Zoom in (1) or out (-1), around a point of the screen or the middle. */
  zoom(direction, at = null) {
    this.#zoomTo(this.#scale * ZOOM_STEP ** direction, at);
  }

  #zoomTo(scale, at) {
    const seen = this.element.getBoundingClientRect();
    const { x, y } = at ?? { x: seen.left + seen.width / 2, y: seen.top + seen.height / 2 };
    const before = this.#place(x, y);
    this.#fits = false;
    this.#scale = Math.min(LARGEST, Math.max(SMALLEST, scale));
    this.#lay();
    const box = this.canvas.getBoundingClientRect();
    this.element.scrollLeft += box.left + before.x * this.#scale - x;
    this.element.scrollTop += box.top + before.y * this.#scale - y;
  }

  /** Give everything its place on the screen. */
  #lay() {
    const { left, top, right, bottom } = this.#edges;
    const { width, height } = this.mask;
    if (this.#fits) {
      const room = this.element;
      const across = (room.clientWidth - 1) / (width + left + right);
      const down = (room.clientHeight - 1) / (height + top + bottom);
      this.#scale = Math.max(SMALLEST, Math.min(across, down, LARGEST));
    }
    this.#shape(this.sheet, left, top, width, height);
    this.#shape(this.frame, null, null, width + left + right, height + top + bottom);
    this.size = this.#size;
    this.frame.classList.toggle("expanded", left + top + right + bottom > 0);
    this.image.classList.toggle("coarse", this.#scale >= 4);
  }

  #shape(element, x, y, width, height) {
    if (x !== null) element.style.left = `${x * this.#scale}px`;
    if (y !== null) element.style.top = `${y * this.#scale}px`;
    element.style.width = `${width * this.#scale}px`;
    element.style.height = `${height * this.#scale}px`;
  }

  #listen() {
    const on = (name, act) => this.canvas.addEventListener(name, act);
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", (event) => this.#up(event));
    on("pointerleave", () => (this.cursor.hidden = true));
    on("contextmenu", (event) => event.preventDefault());
    const wheel = (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1 : -1, { x: event.clientX, y: event.clientY });
    };
    this.element.addEventListener("wheel", wheel, { passive: false });
    new ResizeObserver(() => this.#fits && this.#lay()).observe(this.element);
  }

  #down(event) {
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (event.pointerType === "touch" && this.#pointers.size > 1) return this.#forget();
    if (event.button === 1) {
      this.#pan = { x: event.clientX, y: event.clientY };
    } else if (event.button === 0 || ERASING.includes(event.button)) {
      this.#begin(event, ERASING.includes(event.button));
    }
  }

  #begin(event, erase) {
    const { x, y } = this.#point(event);
    if (this.tool === "box") {
      this.#box = { erase, from: this.#place(event.clientX, event.clientY) };
      return;
    }
    this.#stroke = { tool: erase ? "eraser" : this.tool, size: this.#size, points: [x, y] };
    this.#ink(0);
  }

  #move(event) {
    const coalesced = event.getCoalescedEvents?.() ?? [];
    if (this.#pointers.has(event.pointerId) && this.#pointers.size > 1) this.#pinch(event);
    else if (this.#pan !== null) this.#drag(event);
    else if (this.#box !== null) this.#stretch(event);
    else if (this.#stroke !== null) this.#go(coalesced.length > 0 ? coalesced : [event]);
    this.#follow(event);
  }

  #go(events) {
    const points = this.#stroke.points;
    const from = points.length - 2;
    for (const event of events) {
      const { x, y } = this.#point(event);
      points.push(x, y);
    }
    this.#ink(from);
  }

  /** Draw what is new of a stroke; its edges become sharp when it ends. */
  #ink(from) {
    draw(this.context, this.#stroke, from);
    tint(this.context, this.#colour);
  }

  #up(event) {
    this.#pointers.delete(event.pointerId);
    const stroke = this.#stroke;
    const box = this.#box;
    this.#forget();
    if (event.type === "pointercancel") return;
    if (stroke !== null) this.apply(stroke);
    const area = box === null ? null : this.#between(box.from, this.#place(event.clientX, event.clientY));
    if (area !== null) this.apply({ tool: "box", erase: box.erase, ...area });
  }

  /** Leave what was begun. */
  #forget() {
    const begun = this.#stroke !== null;
    this.#stroke = this.#box = this.#pan = null;
    this.band.hidden = true;
    if (begun) this.redraw();
  }

  #stretch(event) {
    const area = this.#between(this.#box.from, this.#place(event.clientX, event.clientY));
    this.band.hidden = area === null;
    if (area !== null) this.#shape(this.band, area.x, area.y, area.width, area.height);
  }

  #drag({ clientX, clientY }) {
    this.element.scrollLeft -= clientX - this.#pan.x;
    this.element.scrollTop -= clientY - this.#pan.y;
    this.#pan = { x: clientX, y: clientY };
  }

  /** Two fingers move the picture, and zoom it. */
  #pinch(event) {
    const before = twoOf(this.#pointers);
    this.#pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    const after = twoOf(this.#pointers);
    this.#zoomTo((this.#scale * after.apart) / Math.max(1, before.apart), after);
    this.element.scrollLeft -= after.x - before.x;
    this.element.scrollTop -= after.y - before.y;
  }

  #follow(event) {
    this.cursor.hidden = event.pointerType === "touch" || this.tool === "box";
    const { x, y } = this.#place(event.clientX, event.clientY);
    this.#shape(this.cursor, x - this.#size / 2, y - this.#size / 2, this.#size, this.#size);
  }

  /** The pixels of the picture between two places, whole ones; null if there are none. */
  #between(one, other) {
    const x = Math.max(0, Math.floor(Math.min(one.x, other.x)));
    const y = Math.max(0, Math.floor(Math.min(one.y, other.y)));
    const width = Math.min(this.mask.width, Math.ceil(Math.max(one.x, other.x))) - x;
    const height = Math.min(this.mask.height, Math.ceil(Math.max(one.y, other.y))) - y;
    return width > 0 && height > 0 ? { x, y, width, height } : null;
  }

  #point(event) {
    const { x, y } = this.#place(event.clientX, event.clientY);
    return this.#size < FINE ? { x: Math.floor(x) + 0.5, y: Math.floor(y) + 0.5 } : { x, y };
  }

  /** Where a point of the screen is in the picture. */
  #place(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: ((clientX - box.left) / box.width) * this.mask.width,
      y: ((clientY - box.top) / box.height) * this.mask.height,
    };
  }
}

function twoOf(pointers) {
  const [one, other] = [...pointers.values()];
  return {
    x: (one.x + other.x) / 2,
    y: (one.y + other.y) / 2,
    apart: Math.hypot(one.x - other.x, one.y - other.y),
  };
}
