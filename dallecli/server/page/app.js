/** The page: asks the server what is new, and puts the parts together. */
import * as api from "./api.js";
import * as composer from "./composer.js";
import { $, dialog, h, say } from "./dom.js";
import * as gallery from "./gallery.js";
import * as jobs from "./jobs.js";

const EVERY = 2000;
const KEYS = [
  ["Ctrl + Enter", "paint"],
  ["Esc", "cancel what is painted, or close what is open"],
  ["/", "search"],
  ["Arrows, Home, End", "go through the pictures; in a picture, to the next one"],
  ["Enter", "look at a picture"],
  ["Delete", "delete a picture"],
  ["+ −", "zoom in a picture"],
  ["?", "this help"],
];

let known = null;
let failures = 0;
let opened = false;
let locked = false;

const trouble = (text) => {
  const line = $("#trouble");
  if (line.textContent !== text) line.textContent = text;
  line.hidden = text === "";
};

let adding;
const added = () => {
  clearTimeout(adding);
  adding = setTimeout(() => gallery.refresh().catch(() => {}), 150);
};

async function paint(fields) {
  if (!fields.prompt) {
    say("Say first what is to be painted");
    $("#prompt").focus();
    return;
  }
  $("#paint").disabled = true;
  try {
    jobs.show([await jobs.patiently(() => api.generations(fields))]);
  } catch (error) {
    say(api.plain(error), { stays: true });
  }
  $("#paint").disabled = false;
}

/** Ask the server what is new; what changed is shown. */
async function look() {
  const slow = setTimeout(() => trouble("The server is slow to answer…"), 4000);
  try {
    const found = await api.state();
    if (failures) say("The server is back");
    failures = 0;
    trouble(found.status === "draining" ? "The server is going down." : "");
    await show(found);
  } catch (error) {
    failures += 1;
    if (error.status === 401) await login();
    else trouble(error.code === "offline" ? "The server does not answer. Nothing is lost: this page goes on when it is back." : api.plain(error));
  } finally {
    clearTimeout(slow);
  }
}

async function show(found) {
  $("#where").textContent = found.paints ? (found.status === "loading" ? "Opening the model…" : "") : found.folder;
  if (!opened) {
    if (found.paints) await composer.open(paint);
    jobs.open(added);
    gallery.open({ paints: found.paints, onJob: (job) => jobs.show([job]) });
    opened = true;
  }
  jobs.show(found.jobs ?? []);
  if (found.pictures !== known) {
    await gallery.refresh();
    known = found.pictures;
  }
}

let tried = false;

async function login() {
  trouble("");
  const text = tried ? "That is not the right one. It is in the file that the server was started with." : "It is in the file that the server was started with.";
  tried = true;
  const input = h("input", { type: "password", autocomplete: "off", autofocus: true });
  const form = h("form", {}, h("label", { className: "pick" }, "Token", input), h("button", { className: "main" }, "Go on"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    api.useToken(input.value.trim());
    box.close("given");
  });
  const { box, closed } = dialog("This server wants a token", [h("p", {}, text), form]);
  locked = (await closed) === "";
  if (locked) trouble("This server wants a token. Reload the page to give it.");
}

function help() {
  const rows = KEYS.flatMap(([keys, what]) => [h("dt", {}, h("kbd", {}, keys)), h("dd", {}, what)]);
  dialog("Help", [
    h("p", {}, "Say what you would like to see, and paint. Pictures are kept in a folder, each with its recipe inside."),
    h("dl", { className: "facts keys" }, ...rows),
  ]);
}

addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input, textarea, select");
  if (document.querySelector("dialog[open], :popover-open")) return;
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !$("#composer").hidden) {
    event.preventDefault();
    $("#composer").requestSubmit();
  } else if (event.key === "Escape") {
    if (!gallery.stopChoosing() && event.target.id !== "search") jobs.cancelNewest();
  } else if (event.key === "/" && !typing) {
    event.preventDefault();
    $("#search").focus();
  } else if (event.key === "?" && !typing) {
    help();
  }
});

let searching;
$("#search").addEventListener("input", () => {
  clearTimeout(searching);
  searching = setTimeout(() => gallery.refresh().catch((error) => say(api.plain(error))), 200);
});
$("#older").addEventListener("click", () => gallery.older().catch((error) => say(api.plain(error))));
$("#help-button").addEventListener("click", help);

let asking = false;
async function always() {
  if (document.hidden) return jobs.rest();
  if (asking || locked) return;
  asking = true;
  await look();
  asking = false;
}
document.addEventListener("visibilitychange", always);
addEventListener("online", always);
setInterval(always, EVERY);
await always();
