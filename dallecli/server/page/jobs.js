/** What is being painted: a row of unfinished pictures for each job, how far it is, and a button that ends it. */
import * as api from "./api.js";
import { $, h, say } from "./dom.js";

const STAGES = { prior: "Imagining", autoregressive_prior: "Imagining", inversion: "Looking" };
const section = $("#jobs");
const shown = new Map();

/** So many connections follow jobs at a time: a browser has six for a server, and pictures and questions need some. */
const MOST = 2;
let onPicture = () => {};

/** @param {() => void} then  Called when a picture was kept. */
export function open(then) {
  onPicture = then;
}

/** Show what the server paints, or a job that was just begun, and follow as much of it as may be. */
export function show(jobs) {
  for (const job of jobs) {
    const view = shown.get(job.id);
    if (view) view.waiting(job);
    else if (job.status === "waiting" || job.status === "painting") begin(job);
  }
  next();
}

/** Ask for a job, again after a while where the server says that it is busy. */
export const patiently = (ask) => api.patiently(ask, (text) => say(text, { stays: true }));

function begin(job) {
  const view = new View(job);
  shown.set(job.id, view);
  section.prepend(view.element);
  section.hidden = false;
  say(`Painting: ${view.title}`);
}

function next() {
  if (document.hidden) return;
  const left = [...shown.values()].filter((view) => !view.over);
  left.sort((one, other) => (other.job.status === "painting") - (one.job.status === "painting"));
  let room = MOST - left.filter((view) => view.following).length;
  for (const view of left) if (!view.following && room-- > 0) view.follow();
}

/** Follow nothing while nobody looks; `show` goes on with it. */
export function rest() {
  for (const view of shown.values()) view.following?.abort();
}

/** End the newest job; whether there was one. */
export function cancelNewest() {
  const last = [...shown.values()].filter((view) => !view.over).at(-1);
  last?.cancel();
  return last !== undefined;
}

class View {
  over = false;
  following = null;

  constructor(job) {
    this.job = job;
    this.title = job.prompt || api.TITLES[job.task] || job.title;
    this.warning = api.warning(job, job.model);
    this.done = Array(job.count).fill(0);
    this.tiles = this.done.map((_, k) => h("li", { className: "tile" }, h("img", { alt: "", hidden: true })));
    this.stage = h("p", { className: "quiet" });
    this.bar = h("progress", { max: 1, value: 0, "aria-label": `How far: ${this.title}` });
    this.stop = h("button", { type: "button", className: "plain", onclick: () => this.cancel() }, "Cancel");
    this.list = h("ul", { className: "tiles", role: "list" }, ...this.tiles);
    this.element = h("article", { className: "job" },
      h("div", { className: "line" }, h("h2", {}, this.title), h("span", { className: "grow" }), this.stop),
      this.list, this.bar, this.stage, this.warning ? h("p", { className: "note" }, this.warning) : null);
    this.waiting(job);
  }

  waiting({ status, ahead }) {
    this.job.status = status;
    if (status !== "waiting" || this.over) return;
    this.tell(ahead ? `Waiting: ${ahead} ${ahead === 1 ? "picture" : "pictures"} before it` : "Waiting for its turn");
  }

  tell(text) {
    if (this.stage.textContent !== text) this.stage.textContent = text;
  }

  async follow() {
    this.following = new AbortController();
    const { signal } = this.following;
    try {
      for await (const event of api.follow(this.job.id, signal)) this.happened(event);
    } catch (error) {
      if (!signal.aborted) this.end(error.status === 404 ? "The server was started anew, and this was lost. Paint it again." : api.plain(error));
    }
    this.following = null;
    next();
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
      this.look(facts.index, facts.picture?.url ?? `data:image/png;base64,${event.b64_json}`, this.title);
      if (facts.picture) onPicture();
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
    if (!this.warning) {
      say(`Done: ${this.title}`);
      return this.remove();
    }
    this.list.remove();
    this.end("Done");
  }

  end(text) {
    this.over = true;
    this.element.classList.add("over");
    this.bar.remove();
    this.stage.textContent = text;
    this.stage.className = text === "Cancelled" || text === "Done" ? "quiet" : "wrong";
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
