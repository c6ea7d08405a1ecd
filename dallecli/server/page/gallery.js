/** The pictures: a grid that arrow keys go through, a menu under each, and dialogs to look at one or compare two. */
import * as api from "./api.js";
import { $, ask, copy, dialog, h, say } from "./dom.js";
import * as composer from "./composer.js";
import { patiently } from "./jobs.js";

const PAGE = 60;
const MOST = 1000; // that the server lists at once
const grid = $("#grid");
const cards = new Map();
let order = [];
let total = 0;
let paints = false;
let onJob = () => {};
let choosing = null;

/** @param {{paints: boolean, onJob: (job: api.Job) => void}} options  onJob: what is begun from a picture goes there. */
export function open(options) {
  ({ paints, onJob } = options);
}

/** Read the list of pictures again; those that are shown stay the same elements. */
export async function refresh({ more = 0 } = {}) {
  const limit = Math.min(MOST, Math.max(PAGE, order.length) + more);
  const q = $("#search").value.trim();
  const found = await api.pictures({ q, limit });
  if (q !== $("#search").value.trim()) return;
  total = found.total;
  order = found.pictures;
  draw(q, found.incomplete);
}

/** Show what `PAGE` pictures are after those that are shown. */
export const older = () => refresh({ more: PAGE });

function draw(q, incomplete) {
  const active = document.activeElement.closest?.("#grid > li");
  const place = active ? [...grid.children].indexOf(active) : -1;
  const wanted = order.map(cardOf);
  wanted.forEach((card, k) => grid.children[k] !== card && grid.insertBefore(card, grid.children[k] ?? null));
  while (grid.children.length > wanted.length) grid.lastChild.remove();
  const ids = new Set(order.map((one) => one.id));
  for (const id of cards.keys()) if (!ids.has(id)) cards.delete(id);
  if (place >= 0 && !active.isConnected) focusOn(Math.min(place, order.length - 1));
  $("#total").textContent = total ? `${total}` : "";
  $("#older").hidden = total <= order.length || order.length >= MOST;
  const leftOut = [
    order.length >= MOST && total > order.length && `The newest ${MOST} of ${total} are shown; a search finds the others.`,
    incomplete && "This folder has more in it than can be looked at, so some pictures may be missing here.",
  ].filter(Boolean);
  $("#left-out").textContent = leftOut.join(" ");
  $("#left-out").hidden = leftOut.length === 0;
  $("#empty").hidden = total > 0;
  $("#empty").textContent = q ? `No picture has “${q}” in its prompt.`
    : paints ? "Nothing yet. What you paint is kept here." : "There are no pictures in this folder.";
  rove(grid.querySelector(".card [tabindex='0']")?.closest("li") ?? grid.firstElementChild);
}

/** What a picture is called where it is not seen. */
const named = ({ recipe, name }) => (recipe ? recipe.prompt || api.TITLES[recipe.task] || recipe.title : name);

function cardOf(picture) {
  const known = cards.get(picture.id);
  if (known) return known;
  const { recipe } = picture;
  const image = h("img", { src: picture.url, alt: named(picture), loading: "lazy", decoding: "async" });
  image.addEventListener("load", () => Object.assign(picture, { width: image.naturalWidth, height: image.naturalHeight }));
  image.addEventListener("error", () => image.replaceWith(h("span", { className: "broken" }, "This picture cannot be shown")));
  const button = (text, act, more = {}) => h("button", { type: "button", className: "plain", onclick: act, ...more }, text);
  const menu = button("More", () => showMenu(picture, menu), { "aria-label": `More for: ${named(picture)}`, "aria-haspopup": "menu" });
  const card = h("li", { className: "card" },
    h("button", { type: "button", className: "picture", onclick: () => pick(picture) }, image),
    h("p", { className: "said", title: named(picture) }, named(picture)),
    recipe ? h("p", { className: "quiet" }, `seed ${recipe.seed}`) : null,
    h("div", { className: "line" }, ...able(picture, "vary") ? [button("Vary", () => vary(picture))] : [],
      ...able(picture, "inpaint") ? [button("Edit", () => edit(picture))] : [], menu));
  cards.set(picture.id, card);
  return card;
}

const able = (picture, task) => paints && composer.model()?.tasks.includes(task);

/** All that can be done with a picture: [label, what it does]. */
function actions(picture) {
  const { recipe } = picture;
  return [
    able(picture, "vary") && ["Vary", () => vary(picture)],
    able(picture, "inpaint") && ["Edit", () => edit(picture)],
    able(picture, "interpolate") && ["Interpolate with…", () => choose(picture, "interpolate with", between)],
    ["Compare with…", () => choose(picture, "compare with", compare)],
    ["Download", () => download(picture)],
    recipe?.prompt && ["Copy prompt", () => copy(recipe.prompt, "Prompt")],
    recipe && ["Copy as command line", () => command(picture)],
    recipe && ["Copy seed", () => copy(`${recipe.seed}`, "Seed")],
    paints && recipe?.prompt && ["Use this prompt", () => composer.fill(recipe.prompt)],
    paints && ["Delete", () => remove(picture)],
  ].filter(Boolean);
}

// What can be done

/** Say what goes wrong with something that a button does. */
async function tried(work) {
  try {
    return await work();
  } catch (error) {
    say(api.plain(error));
    return undefined;
  }
}

const vary = (picture) => tried(async () => {
  const n = Number($("#count").value);
  const model = composer.model().id;
  // Another model has sizes of its own.
  const size = picture.recipe?.model === model ? picture.recipe.size : undefined;
  const blob = await api.blobOf(picture);
  onJob(await patiently(() => api.variations(blob, { model, n, size })));
});

const edit = (picture) => tried(async () => {
  const { openEditor } = await import("./edit.js");
  await openEditor({ picture, model: composer.model(), onDone: (job) => job && onJob(job) });
});

async function between(one, other) {
  const frames = h("input", { type: "number", min: 2, max: 10, value: 5, autofocus: true });
  const go = h("button", { type: "button", className: "main", onclick: () => box.close(frames.value) }, "Paint");
  const { box, closed } = dialog("Interpolate", [pair(one, other), h("label", { className: "pick" }, "Pictures from one to the other", frames)],
    { actions: [go], label: "Cancel" });
  const count = Number(await closed);
  if (!count) return;
  await tried(async () => {
    const blobs = await Promise.all([one, other].map(api.blobOf));
    onJob(await patiently(() => api.interpolations(blobs, { model: composer.model().id, frames: count })));
  });
}

const download = (picture) => tried(async () => {
  const url = URL.createObjectURL(await api.blobOf(picture));
  h("a", { href: url, download: picture.name.split("/").pop() }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
});

const command = (picture) => tried(async () => copy((await api.picture(picture.id)).command, "Command"));

const remove = (picture) => tried(async () => {
  if (!(await ask("Delete this picture?", `${picture.name} is removed from the folder for good.`, "Delete"))) return;
  await api.remove(picture.id);
  await refresh();
  say("Deleted");
});

// Choosing a second picture

function choose(first, what, then) {
  choosing = { first, then };
  $("#choosing").replaceChildren(`Choose the picture to ${what}. `,
    h("button", { type: "button", className: "plain", onclick: stopChoosing }, "Cancel"));
  $("#choosing").hidden = false;
  document.body.classList.add("picking");
  say(`Choose the picture to ${what}; Esc cancels`);
  focusOn(order.findIndex((one) => one.id === first.id));
}

/** Whether a picture was being chosen, and is not any more. */
export function stopChoosing() {
  const was = choosing !== null;
  choosing = null;
  $("#choosing").hidden = true;
  document.body.classList.remove("picking");
  return was;
}

function pick(picture) {
  if (!choosing) return view(picture);
  const { first, then } = choosing;
  if (first.id === picture.id) return say("Choose another picture");
  stopChoosing();
  then(first, picture);
}

// Dialogs

const figure = (picture) =>
  h("figure", {}, h("img", { src: picture.url, alt: named(picture) }), h("figcaption", {}, named(picture)));

const pair = (one, other) => h("div", { className: "pair" }, figure(one), figure(other));

function compare(one, other) {
  dialog("Compare", [pair(one, other)], { wide: true });
}

/** A picture, large: arrow keys go to the next, + and - zoom. */
function view(start) {
  let picture = start;
  let zoom = 0;
  const image = h("img", {});
  const stage = h("div", { className: "stage", tabIndex: 0, "aria-label": "The picture; plus and minus zoom" }, image);
  const text = h("p", { className: "prompt" });
  const facts = h("dl", { className: "facts" });
  const buttons = h("div", { className: "line wrap" });
  const { box } = dialog("Picture", [stage, text, buttons, facts], { wide: true });
  const scale = (step) => {
    zoom = Math.max(0, Math.min(4, zoom + step));
    stage.classList.toggle("zoomed", zoom > 0);
    image.style.width = zoom ? `${100 * 1.6 ** zoom}%` : "";
    stage.scrollTo((stage.scrollWidth - stage.clientWidth) / 2, (stage.scrollHeight - stage.clientHeight) / 2);
  };
  const show = async (next) => {
    picture = next;
    scale(-9);
    Object.assign(image, { src: picture.url, alt: named(picture) });
    text.textContent = picture.recipe?.prompt || picture.problem || named(picture);
    buttons.replaceChildren(...actions(picture).map(([label, act]) => h("button", { type: "button", onclick: () => {
      if (!label.startsWith("Copy") && label !== "Download") box.close("");
      act();
    } }, label)));
    facts.replaceChildren();
    const whole = await tried(() => api.picture(picture.id));
    if (whole?.recipe && whole.id === picture.id) facts.replaceChildren(...rows(whole, picture.recipe.size).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
  };
  const step = (by) => {
    const place = order.findIndex((one) => one.id === picture.id) + by;
    if (order[place]) show(order[place]);
  };
  box.addEventListener("keydown", (event) => {
    const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => scale(1), "=": () => scale(1), "-": () => scale(-1) };
    if (keys[event.key] && (zoom === 0 || !event.key.startsWith("Arrow"))) {
      event.preventDefault();
      keys[event.key]();
    }
  });
  stage.addEventListener("click", () => scale(zoom ? -9 : 2));
  stage.focus();
  show(picture);
}

function rows({ recipe, name, made }, size) {
  const stages = Object.entries(recipe.stages).map(([stage, dials]) =>
    [stage.replaceAll("_", " "), Object.entries(dials).map(([dial, value]) => `${dial.replaceAll("_", "-")} ${value}`).join(", ")]);
  return [["task", recipe.task], ["model", recipe.model], ["seed", `${recipe.seed}`], ["size", size.replace("x", " × ")],
    ...stages, ["file", name], ["made", new Date(made * 1000).toLocaleString()]];
}

function showMenu(picture, button) {
  const items = actions(picture).map(([label, act]) =>
    h("button", { type: "button", role: "menuitem", tabIndex: -1, onclick: () => { menu.hidePopover(); act(); } }, label));
  const menu = h("div", { className: "menu", popover: "auto", role: "menu", "aria-label": named(picture) }, ...items);
  $("main").append(menu);
  menu.showPopover();
  const at = button.getBoundingClientRect();
  menu.style.left = `${Math.max(8, Math.min(at.left, innerWidth - menu.offsetWidth - 8))}px`;
  menu.style.top = `${at.bottom + menu.offsetHeight + 8 > innerHeight ? Math.max(8, at.top - menu.offsetHeight - 4) : at.bottom + 4}px`;
  menu.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const here = items.indexOf(document.activeElement);
    const next = event.key === "Home" ? 0 : event.key === "End" ? items.length - 1 : by ? (here + by + items.length) % items.length : -1;
    if (event.key === "Tab") menu.hidePopover();
    if (next < 0) return;
    event.preventDefault();
    items[next].focus();
  });
  menu.addEventListener("toggle", (event) => {
    if (event.newState !== "closed") return;
    if (menu.contains(document.activeElement) || document.activeElement === document.body) button.focus();
    menu.remove();
  });
  items[0].focus();
}

// Arrow keys: of all cards one can be reached with Tab

function rove(card) {
  for (const other of grid.children) {
    for (const button of other.querySelectorAll("button")) button.tabIndex = other === card ? 0 : -1;
  }
}

function focusOn(place) {
  grid.children[place]?.querySelector(".picture").focus();
}

grid.addEventListener("focusin", (event) => rove(event.target.closest("#grid > li")));
grid.addEventListener("keydown", (event) => {
  const here = [...grid.children].indexOf(event.target.closest("#grid > li"));
  const across = getComputedStyle(grid).gridTemplateColumns.split(" ").length;
  const next = { ArrowRight: here + 1, ArrowLeft: here - 1, ArrowDown: here + across, ArrowUp: here - across,
    Home: 0, End: order.length - 1 }[event.key];
  if (next !== undefined) {
    event.preventDefault();
    focusOn(next);
  } else if (event.key === "Delete" && paints) {
    remove(order[here]);
  }
});
