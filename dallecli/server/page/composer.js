/** What is asked: the prompt, the model and its dials, and what the model does not know of it. */
import * as api from "./api.js";
import { $, dialog, h } from "./dom.js";

const NAMES = {
  size: "Size", effort: "Effort", prior: "Prior", prior_candidates: "Prior candidates", negative: "Negative prompt",
  steps: "Steps", guidance: "Guidance", sampler: "Sampler", temperature: "Temperature", top_k: "Top-k", top_p: "Top-p",
  prior_steps: "Prior steps", prior_guidance: "Prior guidance", prior_temperature: "Prior temperature",
  resample: "Resample", strength: "Strength", prior_top_k: "Prior top-k", upsampler_steps: "Upsampler steps", upsampler_guidance: "Upsampler guidance",
  upsampler_sampler: "Upsampler sampler",
  guidance_start: "Guidance from", guidance_stop: "Guidance until", reuse: "Reuse", upsampler_reuse: "Upsampler reuse",
  upsampler_guidance_start: "Upsampler guidance from", upsampler_guidance_stop: "Upsampler guidance until",
};
const MOST = 4;

const form = $("#composer");
const prompt = $("#prompt");
const note = $("#note");
const all = new Map();
let checking;

/** The model that is chosen. @returns {api.Model} */
export const model = () => all.get($("#model").value);

/** Get the models, and show the form. `onPaint(fields)` is called with what is asked. */
export async function open(onPaint) {
  const found = await api.models();
  all.clear();
  for (const one of found.models) if (one.tasks.length) all.set(one.id, one);
  const chosen = $("#model").value || found.default;
  $("#model").replaceChildren(...[...all.keys()].map((id) => h("option", { value: id }, id)));
  $("#model").value = all.has(chosen) ? chosen : found.default;
  if (!form.hidden) return;
  $("#count").replaceChildren(...Array.from({ length: 10 }, (_, k) => h("option", { value: k + 1 }, `${k + 1}`)));
  $("#count").value = MOST;
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onPaint(fields());
  });
  $("#model").addEventListener("change", changed);
  prompt.addEventListener("input", () => {
    clearTimeout(checking);
    checking = setTimeout(check, 350);
  });
  $("#known-button").addEventListener("click", showKnown);
  changed();
}

/** Put a prompt into the form. */
export function fill(text) {
  prompt.value = text;
  prompt.focus();
  check();
}

/** What is asked, as the server reads it; a dial that was not touched is not in it. */
export function fields() {
  return { prompt: prompt.value.trim(), model: $("#model").value, n: Number($("#count").value), ...dials() };
}

/** The dials that were touched, by name. */
export function dials() {
  const found = {};
  for (const field of form.querySelectorAll("#dials [name]:enabled")) {
    if (field.value.trim() !== "" && !field.parentElement.hidden) found[field.name] = field.value.trim();
  }
  return found;
}

function changed() {
  const { dials: known, knows, prompts } = model();
  prompt.placeholder = prompts ? "Describe a picture…" : "Name what it paints…";
  $("#known-button").hidden = !knows;
  const before = dials();
  const seed = { name: "seed", kind: "whole", least: 0 };
  $("#dials").replaceChildren(...fieldsOf([seed, ...known], before));
  check();
}

/** Fields for dials, with what was set before; those of another prior than the chosen one are out of the way. */
export function fieldsOf(dials, values = {}) {
  const labels = dials.map((dial) => field(dial, values[dial.name]));
  const prior = labels.find((label) => label.lastChild.name === "prior")?.lastChild;
  const suit = () => dials.forEach(({ priors }, k) => {
    const chosen = prior?.value || dials.find((dial) => dial.name === "prior")?.own;
    labels[k].hidden = labels[k].lastChild.disabled = Boolean(priors) && !priors.includes(chosen);
  });
  prior?.addEventListener("change", suit);
  suit();
  return labels;
}

/** A label with a field in it. */
function field(dial, value) {
  const { name, kind, own, choices, least, most, step } = dial;
  const usual = name === "seed" ? "random" : own === null || own === undefined ? "" : `${own}`;
  const input =
    kind === "choice"
      ? h("select", { name }, h("option", { value: "" }, usual ? `${usual} (usual)` : "usual"),
          ...choices.filter((one) => one !== own).map((one) => h("option", { value: one }, one)))
      : h("input", {
          name, type: kind === "text" ? "text" : "number", placeholder: usual, autocomplete: "off",
          min: least ?? null, max: most ?? null, step: kind === "number" ? (step ?? "any") : null,
        });
  if (value !== undefined) input.value = value;
  return h("label", {}, name === "seed" ? "Seed" : (NAMES[name] ?? name), input);
}

/** Say what the model does not know of the prompt, before it is painted. */
async function check() {
  clearTimeout(checking);
  const asked = { prompt: prompt.value.trim(), model: $("#model").value };
  let text = "";
  if (asked.prompt) {
    try {
      text = api.warning(await api.check(asked), asked.model);
    } catch (error) {
      if (error.status !== 400 && error.status !== 404) return;
      text = api.plain(error);
    }
    if (asked.prompt !== prompt.value.trim()) return;
  }
  note.textContent = text;
  note.hidden = text === "";
}

async function showKnown() {
  const name = model().id;
  const { kinds, classes } = await api.words(name);
  const use = (word) => h("button", { type: "button", className: "word", onclick: () => add(word) }, word);
  const { box } = dialog(`What ${name} knows`, kinds
    ? [h("p", { className: "quiet" }, "It was trained on these words, and on no others. Choose one to put it in."),
       ...Object.entries(kinds).map(([kind, said]) =>
         h("section", {}, h("h3", {}, kind), h("p", { className: "words" }, ...said.map(([first]) => use(first)))))]
    : [h("p", { className: "quiet" }, `It paints one of these ${classes.length} classes.`), find(classes, use)], { wide: true });
  const add = (word) => {
    box.close("");
    fill(kinds && prompt.value.trim() ? `${prompt.value.trim()} ${word}` : word);
  };
}

/** A list that is too long to be shown as a whole, and a field to find something in it. */
function find(names, use) {
  const list = h("p", { className: "words" });
  const show = (text) => list.replaceChildren(
    ...names.filter((name) => name.toLowerCase().includes(text.toLowerCase())).slice(0, 200).map(use));
  const input = h("input", { type: "search", placeholder: "Find a class", "aria-label": "Find a class", autofocus: true });
  input.addEventListener("input", () => show(input.value));
  show("");
  return h("div", {}, input, list);
}
