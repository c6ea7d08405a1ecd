/** What is being painted: a row of unfinished pictures for each job, how far it is, and a button that ends it. */
import * as api from "./api.js";
import { $, h, say } from "./dom.js";

const STAGES = { prior: "Imagining", autoregressive_prior: "Imagining", inversion: "Looking" };
const section = $("#jobs");
const shown = new Map();

/** Show a job, and follow it to its end. `onPicture(picture)` is called with every picture that is kept. */
export function show(job, onPicture) {
  if (shown.has(job.id)) return update(job);
  if (job.status === "done" || job.status === "failed") return;
  const view = new View(job, onPicture);
  shown.set(job.id, view);
  section.prepend(view.element);
  section.hidden = false;
  view.follow();
}

/** End the newest job; whether there was one. */
export function cancelNewest() {
  const last = [...shown.values()].filter((view) => !view.over).at(-1);
  last?.cancel();
  return last !== undefined;
}

function update(job) {
  shown.get(job.id).waiting(job);
}

class View {
  over = false;

  constructor(job, onPicture) {
    this.job = job;
    this.onPicture = onPicture;
    this.done = Array(job.count).fill(0);
    this.tiles = this.done.map((_, k) => h("li", { className: "tile" }, h("img", { alt: "", hidden: true })));
    this.stage = h("p", { className: "quiet" });
    this.bar = h("progress", { max: 1, value: 0, "aria-label": `How far: ${job.title}` });
    this.stop = h("button", { type: "button", className: "plain", onclick: () => this.cancel() }, "Cancel");
    const warned = job.warnings.length ? h("p", { className: "note" }, job.warnings.join("; ")) : null;
    this.element = h("article", { className: "job" },
      h("div", { className: "line" }, h("h3", {}, job.title), h("span", { className: "grow" }), this.stop),
      h("ul", { className: "tiles", role: "list" }, ...this.tiles), this.bar, this.stage, warned);
    this.waiting(job);
  }

  waiting({ status, ahead }) {
    if (status !== "waiting" || this.over) return;
    this.tell(ahead ? `Waiting: ${ahead} ${ahead === 1 ? "picture" : "pictures"} before it` : "Waiting for its turn");
  }

  tell(text) {
    if (this.stage.textContent !== text) this.stage.textContent = text;
  }

  async follow() {
    say(`Painting: ${this.job.title}`);
    try {
      for await (const event of api.follow(this.job.id)) this.happened(event);
    } catch (error) {
      this.end(error.status === 404 ? "The server was started anew, and this was lost. Paint it again." : api.plain(error));
    }
  }

  happened(event) {
    const facts = event.dalle;
    if (event.type === "dalle.progress") {
      this.done[facts.index] = facts.done;
      this.tell(`${STAGES[facts.stage] ?? "Painting"}: ${facts.stage.replaceAll("_", " ")}, step ${facts.step} of ${facts.steps}`);
    } else if (event.type.endsWith(".partial_image")) {
      this.look(facts.index, `data:image/png;base64,${event.b64_json}`, "");
    } else if (event.type.endsWith(".completed")) {
      this.done[facts.index] = 1;
      this.look(facts.index, facts.picture?.url ?? `data:image/png;base64,${event.b64_json}`, this.job.title);
      if (facts.picture) this.onPicture(facts.picture);
      else this.unkept = facts.not_kept;
    } else if (event.type === "dalle.done") {
      return this.finish();
    } else if (event.type === "error") {
      return this.end(event.error.code === "client_left" ? "Cancelled" : api.plain(event.error));
    }
    this.bar.value = this.done.reduce((sum, one) => sum + one, 0) / this.done.length;
  }

  look(k, url, alt) {
    const image = this.tiles[k].firstChild;
    image.src = url;
    image.alt = alt;
    image.hidden = false;
    this.tiles[k].classList.toggle("soft", alt === "");
  }

  finish() {
    if (this.unkept) return this.end(`Painted, but not kept: ${this.unkept}. Save it from here.`);
    say(`Done: ${this.job.title}`);
    this.remove();
  }

  end(text) {
    this.over = true;
    this.element.classList.add("over");
    this.bar.remove();
    this.stage.textContent = text;
    this.stage.className = text === "Cancelled" ? "quiet" : "wrong";
    this.stop.textContent = "Dismiss";
    say(text);
    if (text === "Cancelled") setTimeout(() => this.remove(), 1500);
  }

  async cancel() {
    if (this.over) return this.remove();
    this.stop.disabled = true;
    try {
      await api.cancel(this.job.id);
    } catch (error) {
      say(api.plain(error));
    }
    this.stop.disabled = false;
  }

  remove() {
    this.over = true;
    const focused = this.element.contains(document.activeElement);
    this.element.remove();
    section.hidden = !section.children.length;
    if (focused) $("#prompt").focus();
  }
}
