/** The editor: mark what is painted anew, or how far to paint beyond the edges, say what, and try until it fits. */
import * as api from "./api.js";
import { fieldsOf } from "./composer.js";
import { Desk, newDraft } from "./desk.js";
import { dialog, h } from "./dom.js";

const SIDES = ["left", "top", "right", "bottom"];
const MOST_ADDED = 16384; // pixels at an edge
const SEED = { name: "seed", kind: "whole", least: 0 };
const MORE = [
  { name: "resample", kind: "whole", least: 1, most: 100 },
  { name: "strength", kind: "number", least: 0, most: 1, step: 0.05, own: 0.6 },
];

/** What was marked and said of pictures, by their id, for when they are edited again. */
const drafts = new Map();

/**
 * Open the editor on a picture. `onDone` is called with every job that is begun, and with null when it is closed
 * without any.
 *
 * @param {{picture: api.Picture, model: api.Model, onDone: (job: ?api.Job) => void}} options
 */
export async function openEditor({ picture, model, onDone }) {
  const editor = new Editor(model, onDone);
  const loaded = await load(picture);
  const { closed } = dialog("Edit", [editor.element], { wide: true, stays: true });
  editor.show(loaded);
  editor.desk.board.canvas.focus();
  await closed;
  editor.end();
}

/** The file of a picture, and the picture as something that can be drawn. */
async function load(picture) {
  const data = await api.blobOf(picture);
  const image = h("img", { src: URL.createObjectURL(data), alt: "" });
  await image.decode();
  return { picture, data, image };
}

class Editor {
  #model;
  #onDone;
  #loaded = null;
  #draft = null;
  #share = 0;
  #tries = [];
  #shown = null;
  #job = null;
  #patience = new AbortController();
  #began = false;
  #ended = new AbortController();

  constructor(model, onDone) {
    this.#model = model;
    this.#onDone = onDone;
    this.plan = h("p", { className: "plan quiet", role: "status" });
    this.stage = h("p", { className: "quiet", role: "status" });
    this.wrong = h("p", { className: "wrong", role: "alert" });
    this.bar = h("progress", { max: 1, value: 0, "aria-label": "How far it is", hidden: true });
    this.strip = h("div", { className: "tries", role: "group", "aria-label": "Tries" });
    this.desk = new Desk({
      changed: (share) => this.#marked(share),
      wrong: (text) => (this.wrong.textContent = text),
      drawing: () => this.#show(null),
    });
    this.form = this.#makeForm();
    this.element = h(
      "div",
      { className: "edit", onkeydown: (event) => this.#key(event) },
      h("div", {}, this.desk.element, this.plan, this.strip),
      this.form,
    );
  }

  #makeForm() {
    this.prompt = h("textarea", { name: "prompt", rows: 3, required: true, maxLength: 32000 });
    this.sides = Object.fromEntries(SIDES.map((side) =>
      [side, h("input", { type: "number", name: side, min: 0, max: MOST_ADDED, step: 1, placeholder: "0", oninput: () => this.#expand() })]));
    const dials = this.#model.dials.filter((dial) => dial.name !== "size");
    const [seed, ...more] = fieldsOf([SEED, ...dials, ...MORE]);
    this.start = h("button", { className: "main" }, "Paint");
    this.stop = h("button", { type: "button", hidden: true, onclick: () => this.#cancel() }, "Cancel");
    const count = h("input", { type: "number", name: "n", min: 1, max: 10, step: 1, defaultValue: 1, required: true });
    return h(
      "form",
      { onsubmit: (event) => this.#submit(event) },
      h("label", {}, "What to paint there", this.prompt),
      h("div", { className: "fields" }, h("label", {}, "Pictures", count), seed),
      h("fieldset", {}, h("legend", {}, "Paint beyond the edges, in pixels"),
        h("div", { className: "fields" }, ...SIDES.map((side) => h("label", {}, side, this.sides[side])))),
      this.desk.numbers,
      h("details", {}, h("summary", {}, "Dials"), h("div", { className: "fields" }, ...more)),
      h("div", { className: "line" }, this.start, this.stop),
      this.bar, this.stage, this.wrong,
    );
  }

  /** Put a picture on the desk, with what was marked and said of it before. */
  show(loaded) {
    this.#keep();
    this.#leave();
    this.#loaded = loaded;
    const { picture, image } = loaded;
    this.#draft = drafts.get(picture.id) ?? newDraft(image);
    this.#tries = [];
    this.desk.show(image, this.#draft);
    this.form.reset();
    const values = { prompt: picture.recipe?.prompt ?? "", ...this.#draft.values };
    for (const [name, value] of Object.entries(values)) {
      const control = this.form.elements.namedItem(name);
      if (control !== null) control.value = value;
    }
    this.form.elements.namedItem("prior")?.dispatchEvent(new Event("change"));
    this.#expand();
  }

  /** Remember what was marked and said. */
  #keep() {
    if (this.#loaded === null) return;
    this.#draft.values = Object.fromEntries(new FormData(this.form));
    drafts.set(this.#loaded.picture.id, this.#draft);
  }

  #leave() {
    if (this.#loaded !== null) URL.revokeObjectURL(this.#loaded.image.src);
  }

  /** What is being painted goes on; it is the page's, too. */
  end() {
    this.#ended.abort();
    this.#patience.abort();
    this.#keep();
    this.#leave();
    if (!this.#began) this.#onDone(null);
  }

  // What would be painted

  #marked(share) {
    this.#share = share;
    this.#say();
  }

  #expand() {
    this.#show(null);
    this.desk.board.edges = this.#edges();
    this.#say();
  }

  #edges() {
    return Object.fromEntries(SIDES.map((side) => [side, Math.max(0, this.sides[side].valueAsNumber || 0)]));
  }

  #say() {
    const { width, height } = this.desk.board.mask;
    const { left, top, right, bottom } = this.#edges();
    const grows = left + top + right + bottom > 0;
    const parts = [];
    if (this.#share === 1) parts.push("Everything is marked: leave some of the picture.");
    else if (this.#share > 0) parts.push(`${percent(this.#share)} of the picture is painted anew.`);
    if (grows) parts.push(`It grows from ${width} × ${height} to ${width + left + right} × ${height + top + bottom} pixels.`);
    this.plan.textContent = parts.join(" ") || "Nothing is marked: the whole picture is painted over.";
    this.form.elements.namedItem("strength").disabled = grows || this.#share > 0;
  }

  #key(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    this.form.requestSubmit();
  }

  // Painting

  async #submit(event) {
    event.preventDefault();
    if (this.#job !== null || this.start.disabled) return;
    this.#keep();
    this.#busy(true, "Sending …");
    let said = "";
    try {
      said = await this.#paint();
    } catch (error) {
      if (this.#ended.signal.aborted) return;
      this.wrong.textContent = api.plain(error);
    }
    this.#job = null;
    this.#tries = this.#tries.filter((one) => one.whole);
    if (this.#shown !== null && !this.#tries.includes(this.#shown)) this.#show(null);
    this.#busy(false, said);
    this.#draw();
  }

  #busy(painting, text) {
    this.start.disabled = painting;
    this.stop.hidden = this.bar.hidden = !painting;
    this.bar.value = 0;
    this.stage.textContent = text;
    if (painting) this.wrong.textContent = "";
  }

  /** Have it painted, and return what came of it in words. */
  async #paint() {
    const request = await this.#request();
    this.#patience = new AbortController();
    this.#job = await api.patiently(
      () => api.edits(request), (text) => (this.stage.textContent = text), this.#patience.signal);
    this.#began = true;
    this.#onDone(this.#job);
    const { count, model } = this.#job;
    const warned = api.warning(this.#job, model);
    const fresh = Array.from({ length: count }, () => ({ url: null, picture: null, done: 0, whole: false }));
    this.#tries.push(...fresh);
    this.#show(fresh[0]);
    this.stage.textContent = "Waiting for its turn …";
    for await (const event of api.follow(this.#job.id, this.#ended.signal)) {
      if (event.type === "error") {
        if (event.error.code === "client_left") return "Cancelled.";
        throw new api.Problem(api.plain(event.error));
      }
      if (event.dalle) this.#happened(event, fresh);
    }
    return `${count === 1 ? "Done." : `${count} pictures are done.`} ${warned}`.trim();
  }

  #happened({ type, b64_json: data, dalle: facts }, fresh) {
    const one = fresh[facts.index];
    if (type === "dalle.progress") {
      one.done = facts.done;
      this.stage.textContent = `${facts.stage.replaceAll("_", " ")}: step ${facts.step} of ${facts.steps}`;
    } else {
      one.url = facts.picture?.url ?? `data:image/png;base64,${data}`;
      one.picture = facts.picture ?? null;
      one.whole = type.endsWith(".completed");
      if (one.whole) one.done = 1;
      if (facts.not_kept) this.wrong.textContent = `Painted, but not kept: ${facts.not_kept}`;
      this.#draw();
      if (this.#shown === one) this.#show(one);
    }
    this.bar.value = fresh.reduce((sum, each) => sum + each.done, 0) / fresh.length;
  }

  /** What is asked of the server: the picture itself, the mask, and everything that was filled in. */
  async #request() {
    const form = new FormData();
    form.append("model", this.#model.id);
    form.append("image", this.#loaded.data, "picture");
    if (this.#share > 0) form.append("mask", await this.desk.board.mask.forServer(), "mask.png");
    const edges = Object.entries(this.#edges()).filter(([, pixels]) => pixels > 0);
    if (edges.length > 0) form.append("expand", edges.map(([side, pixels]) => `${side}=${pixels}`).join(","));
    for (const [name, value] of new FormData(this.form)) {
      if (value.trim() !== "" && !SIDES.includes(name)) form.append(name, value.trim());
    }
    return form;
  }

  async #cancel() {
    try {
      if (this.#job !== null) await api.cancel(this.#job.id);
      else this.#patience.abort();
    } catch (error) {
      this.wrong.textContent = api.plain(error);
    }
  }

  // Tries

  /** Show a try in place of the picture; null shows the picture, which can be marked. */
  #show(one) {
    this.#shown = one;
    this.desk.board.preview(one?.url ?? null);
    this.#draw();
  }

  #draw() {
    const focused = [...this.strip.children].indexOf(document.activeElement);
    const choices = this.#tries.length > 0 ? [null, ...this.#tries] : [];
    this.strip.replaceChildren(...choices.map((one, k) => this.#makeTry(one, k)));
    const chosen = this.#shown?.picture;
    if (chosen && !this.start.disabled) this.strip.append(h("button", { type: "button", onclick: () => this.#goOn(chosen) }, "Go on from this"));
    this.strip.children[focused]?.focus();
  }

  #makeTry(one, k) {
    const url = one === null ? this.#loaded.image.src : one.url;
    const name = one === null ? "The picture" : `Try ${k}`;
    const inside = url === null ? "…" : h("img", { src: url, alt: name });
    const more = { title: name, "aria-label": name, "aria-pressed": String(this.#shown === one) };
    return h("button", { type: "button", className: "try", onclick: () => this.#show(one), ...more }, inside);
  }

  async #goOn(picture) {
    const prompt = this.prompt.value;
    try {
      this.show(await load(picture));
      this.prompt.value = prompt;
      this.desk.board.canvas.focus();
    } catch (error) {
      this.wrong.textContent = api.plain(error);
    }
  }
}

function percent(share) {
  return share < 0.01 ? "Less than 1 %" : `${Math.round(share * 100)} %`;
}
