/** Where a picture is marked: the tools, the board, and ways to mark without a pointer. */
import { Board } from "./board.js";
import { h } from "./dom.js";
import { Mask, readMaskFile, transparentPart } from "./mask.js";

const TOOLS = { brush: ["Brush", "b"], eraser: ["Eraser", "e"], box: ["Rectangle", "r"] };
const LARGEST_BRUSH = 400;
const GROWTH = 1.25;

/** What begins with a picture: nothing is marked but what is transparent in it. */
export function newDraft(image) {
  const mask = new Mask(image.naturalWidth, image.naturalHeight);
  const transparent = transparentPart(image);
  if (transparent !== null) mask.add(transparent);
  const size = Math.max(1, Math.round(Math.min(mask.width, mask.height) / 8));
  return { mask, size, tool: "brush", values: {} };
}

/** `changed(share)` is called with the share of the picture that is marked; `wrong(text)` with what cannot be done. */
export class Desk {
  #draft;

  constructor({ changed, wrong, drawing }) {
    this.changed = changed;
    this.wrong = wrong;
    this.drawing = drawing;
    this.place = h("div", {});
    this.numbers = this.#makeNumbers();
    this.element = h(
      "section",
      { className: "desk", "aria-label": "The picture", onkeydown: (event) => this.#key(event) },
      this.#makeTools(), this.place,
    );
  }

  #makeTools() {
    this.tools = Object.entries(TOOLS).map(([tool, [name, key]]) =>
      h("button", { type: "button", value: tool, title: `${name} (${key})`, onclick: () => this.#choose(tool) }, name));
    this.size = h("input", { type: "range", min: 1, max: LARGEST_BRUSH, title: "Size ([ and ])", oninput: () => this.#resize() });
    this.sizeSaid = h("span", { className: "size", "aria-hidden": "true" });
    this.undoing = button("Undo", () => this.#turn("undo"), "Undo (Ctrl+Z)");
    this.redoing = button("Redo", () => this.#turn("redo"), "Redo (Ctrl+Shift+Z)");
    this.colour = h("input", { type: "color", value: "#ff00a0", oninput: () => (this.board.colour = this.colour.value) });
    const zoom = (sign, direction, name, key) =>
      h("button", { type: "button", "aria-label": name, title: `${name} (${key})`, onclick: () => this.board.zoom(direction) }, sign);
    return h(
      "div",
      { className: "tools" },
      group("Tool", ...this.tools),
      h("label", {}, "Size", this.size, this.sizeSaid),
      group("Mask", this.undoing, this.redoing,
        button("Invert", () => this.board.apply({ tool: "invert" }), "Mark what is not marked (i)"),
        button("Clear", () => this.board.apply({ tool: "clear" }), "Mark nothing")),
      group("Zoom", zoom("−", -1, "Zoom out", "-"), zoom("+", 1, "Zoom in", "+"),
        button("Fit", () => this.board.fit(), "The whole picture (0)")),
      h("label", {}, "Colour", this.colour),
    );
  }

  #makeNumbers() {
    const fields = Object.fromEntries(["x", "y", "width", "height"].map((name) =>
      [name, h("input", { type: "number", min: name.length > 1 ? 1 : 0, step: 1 })]));
    const mark = (erase) => () => {
      const box = Object.entries(fields).map(([name, field]) => [name, field.valueAsNumber || 0]);
      this.#markBox({ ...Object.fromEntries(box), erase });
    };
    const file = h("input", { type: "file", accept: "image/*", onchange: () => this.#load(file) });
    return h(
      "details",
      {},
      h("summary", {}, "Mark by numbers, or with a file"),
      h("div", { className: "fields" }, ...Object.entries(fields).map(([name, field]) => h("label", {}, name, field))),
      h("div", { className: "line" }, button("Mark", mark(false), "Mark this rectangle"),
        button("Unmark", mark(true), "Unmark this rectangle"), h("span", { className: "grow" }),
        button("Save the mask", () => this.#save(), "As a picture in which white is painted anew")),
      h("label", {}, "Mask from a file: what is transparent in it, or else white, is marked", file),
    );
  }

  /** Put a picture on the desk with what was marked of it. */
  show(image, draft) {
    this.#draft = draft;
    this.board = new Board(image, draft.mask, (share) => {
      this.undoing.disabled = !draft.mask.canUndo;
      this.redoing.disabled = !draft.mask.canRedo;
      this.changed(share);
    });
    this.board.canvas.addEventListener("pointerdown", () => this.drawing(), { capture: true });
    this.place.replaceChildren(this.board.element);
    this.board.colour = this.colour.value;
    this.size.value = draft.size;
    this.#resize();
    this.#choose(draft.tool);
  }

  #choose(tool) {
    this.board.tool = this.#draft.tool = tool;
    for (const one of this.tools) one.setAttribute("aria-pressed", String(one.value === tool));
  }

  #resize() {
    this.board.size = this.#draft.size = this.size.valueAsNumber;
    this.sizeSaid.textContent = this.size.value;
  }

  #grow(direction) {
    const size = this.size.valueAsNumber;
    const next = Math.round(size * GROWTH ** direction);
    this.size.value = next === size ? size + direction : next;
    this.#resize();
  }

  #turn(which) {
    this.board.mask[which]();
    this.board.redraw();
  }

  #markBox(box) {
    const { width, height } = this.board.mask;
    if (box.width < 1 || box.height < 1 || box.x < 0 || box.y < 0 || box.x + box.width > width || box.y + box.height > height) {
      return this.wrong(`A rectangle lies in the picture, which has ${width} × ${height} pixels.`);
    }
    this.wrong("");
    return this.board.apply({ tool: "box", ...box });
  }

  async #load(input) {
    const { width, height } = this.board.mask;
    try {
      this.board.apply(await readMaskFile(input.files[0], width, height));
      this.wrong("");
    } catch (error) {
      this.wrong(error.message);
    }
    input.value = "";
  }

  async #save() {
    const url = URL.createObjectURL(await this.board.mask.forFile());
    h("a", { href: url, download: "mask.png" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  /** Single keys mean something only here, so that nothing else is taken from who types or lets a machine type. */
  #key(event) {
    const key = event.key.toLowerCase();
    const control = event.ctrlKey || event.metaKey;
    const act = control ? this.#held(key, event.shiftKey) : this.#pressed(key);
    if (act === undefined || event.altKey) return;
    event.preventDefault();
    act();
  }

  #held(key, shift) {
    if (key === "y" || (key === "z" && shift)) return () => this.#turn("redo");
    return key === "z" ? () => this.#turn("undo") : undefined;
  }

  #pressed(key) {
    const tool = Object.keys(TOOLS).find((name) => TOOLS[name][1] === key);
    if (tool !== undefined) return () => this.#choose(tool);
    return {
      "[": () => this.#grow(-1),
      "]": () => this.#grow(1),
      i: () => this.board.apply({ tool: "invert" }),
      "+": () => this.board.zoom(1),
      "=": () => this.board.zoom(1),
      "-": () => this.board.zoom(-1),
      0: () => this.board.fit(),
    }[key];
  }
}

const button = (text, onclick, title) => h("button", { type: "button", title, onclick }, text);

const group = (name, ...children) => h("div", { className: "group", role: "group", "aria-label": name }, ...children);
