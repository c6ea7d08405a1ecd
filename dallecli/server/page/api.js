/**
 * Talks to the server. Every other module of the page asks it through this one.
 *
 * What is painted is a job of the server: it goes on when the page is closed, and ends when it is done or cancelled.
 *
 * @typedef {object} Picture  A picture of the gallery.
 * @property {string} id      Names it for the server.
 * @property {string} url     Where its file is, absolute; needs no token, so that an <img> can show it.
 * @property {string} name    The name of its file.
 * @property {number} made    When, in seconds.
 * @property {?object} recipe How it was made: {task, title, prompt, model, seed, size, inputs}; null if nobody knows,
 * @property {?string} problem and then why.
 * @property {number} [width] In pixels, where it has been loaded: the editor gets both.
 * @property {number} [height]
 *
 * @typedef {object} Job      What is being painted: {id, task, status, ahead, title, prompt, model, seed, count,
 *                            completed, made, unknown, dropped, warnings}; status is waiting, painting, done or failed.
 *
 * @typedef {object} Model    {id, description, tasks, sizes, largest, prompts, knows, dials}; knows is "words",
 *                            "classes" or null; a dial is {name, kind, own, priors, choices, least, most, step}.
 *
 * The editor: `edit.js` exports `openEditor({picture, model, onDone})`. It shows a dialog, and calls `onDone(job)` with
 * what `edits(form)` gave, or `onDone(null)` when it is closed without.
 */

const base = new URL("../", import.meta.url);
const KEY = "dalle-token";

let token = fragment() ?? sessionStorage.getItem(KEY);

/** The token of `#token=…`, which is taken out of the address. */
function fragment() {
  const found = new URLSearchParams(location.hash.slice(1)).get("token");
  if (found) {
    sessionStorage.setItem(KEY, found);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return found;
}

/** Use another token from now on, in this tab. */
export function useToken(text) {
  token = text;
  sessionStorage.setItem(KEY, text);
}

/** What went wrong, in words for people. */
export class Problem extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string, after?: number}} facts  status 0: no answer came. after: seconds until it
   *   is worth trying again.
   */
  constructor(message, { status = 0, code = "", after = 0 } = {}) {
    super(message);
    Object.assign(this, { status, code, after });
  }
}

/** What pictures are called that were made without words, by task. */
export const TITLES = { vary: "A variation", interpolate: "Between two pictures" };

/** What a model does not know or read of what it was asked for; "" if there is nothing. */
export function warning({ unknown, dropped, warnings }, model) {
  const unread = dropped.length ? [`${model} reads no further than this; left out: ${dropped.join(" ")}`] : [];
  const said = unknown.length ? [`${model} does not know: ${unknown.join(", ")}. It paints something else for that.`] : [];
  return [...said, ...unread, ...warnings].join(" ");
}

/** The text of an error of the server, without its labels. */
export const plain = (error) => error.message.replace(/^(hint|where): /gm, "").replaceAll("\n", "; ");

async function send(path, { method = "GET", body, signal } = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  if (body !== undefined && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(new URL(path, base), { method, headers, body, signal, redirect: "error" });
  } catch (error) {
    if (signal?.aborted && signal.reason?.name !== "TimeoutError") throw error;
    throw new Problem("The server does not answer.", { code: "offline" });
  }
  if (!answer.ok) throw await refused(answer);
  return answer;
}

async function refused(answer) {
  const facts = { status: answer.status, after: Number(answer.headers.get("retry-after")) || 0 };
  let error = { message: `The server answered with status ${answer.status}.` };
  try {
    error = (await answer.json()).error ?? error;
  } catch {
    // not ours: a proxy's
  }
  return new Problem(plain(error), { ...facts, code: error.code ?? "" });
}

/**
 * Do something, again after a while where the server says that it is busy. `tell(text)` is called with each second that
 * is left; `signal` ends the waiting.
 */
export async function patiently(work, tell, signal) {
  for (let tries = 1; ; tries++) {
    try {
      return await work();
    } catch (error) {
      if (![429, 503].includes(error.status) || !error.after || tries === 5) throw error;
      for (let left = error.after; left > 0; left--) {
        tell(`The server is busy. Trying again in ${left} s`);
        await new Promise((resolve) => setTimeout(resolve, 1000));
        if (signal?.aborted) throw new Problem("Cancelled.");
      }
    }
  }
}

const json = async (path, options) => (await send(path, options)).json();
const located = (picture) => ({ ...picture, url: new URL(picture.url, base).href });

/** What changes: {version, paints, folder, pictures, status, waiting, jobs}. `pictures` changes with the gallery. */
export const state = () => json("dalle/state", { signal: AbortSignal.timeout(10_000) });

/** @returns {Promise<{models: Model[], default: string}>} */
export const models = () => json("dalle/models");

/** What a model knows: {kinds: {kind: [[name, …others]]} or null, classes: [name] or null}. */
export const words = (model) => json(`dalle/words/${encodeURIComponent(model)}`);

/** What a request would be warned of: {unknown, dropped, warnings}. Nothing is painted. */
export const check = (fields, signal) => json("dalle/check", { method: "POST", body: fields, signal });

/** The pictures with these words, the newest first. @returns {Promise<{pictures: Picture[], total: number, incomplete: boolean}>} */
export async function pictures({ q = "", first = 0, limit = 60 } = {}) {
  const found = await json(`dalle/pictures?${new URLSearchParams({ q, first, limit })}`);
  return { ...found, pictures: found.pictures.map(located) };
}

/** One picture with its whole recipe, and the `command` that paints it again. */
export const picture = async (id) => located(await json(`dalle/pictures/${id}`));

/** Remove a picture for good. */
export const remove = (id) => json(`dalle/pictures/${id}`, { method: "DELETE" });

/** The file of a picture, with its recipe inside. @returns {Promise<Blob>} */
export const blobOf = async (picture) => (await send(picture.url)).blob();

/** Have pictures of words painted. @returns {Promise<Job>} */
export const generations = (fields) => start("generations", fields);

/** Have pictures like another painted. @param {Blob} blob @returns {Promise<Job>} */
export const variations = (blob, fields) => start("variations", form({ image: blob, ...fields }));

/**
 * Have a picture repainted: `image`, `mask` (a PNG, transparent where it is repainted), `prompt`, and the dials.
 * @param {FormData|object} fields @returns {Promise<Job>}
 */
export const edits = (fields) => start("edits", fields instanceof FormData ? fields : form(fields));

/** Have the way between pictures painted. @param {Blob[]} blobs @returns {Promise<Job>} */
export const interpolations = (blobs, fields) => start("interpolations", form({ "image[]": blobs, ...fields }));

const start = (route, body) => json(`dalle/jobs/${route}`, { method: "POST", body });

/** End a job; one that is over is forgotten. */
export const cancel = (id) => json(`dalle/jobs/${id}`, { method: "DELETE" });

function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== undefined && one !== null && one !== "") data.append(name, one);
    }
  }
  return data;
}

/**
 * What has happened to a job, and then what happens, to its end. A connection that is lost is made again.
 *
 * Events, by `type`: "dalle.progress" with `dalle` {index, stage, step, steps, done}; "….partial_image" with `b64_json`
 * and `dalle.index`; "….completed" with `dalle` {index, picture, seed, warnings}, or `b64_json` and `dalle.not_kept`
 * where the picture could not be kept; at last "dalle.done", or "error" with `error`. After a lost connection events
 * come again.
 */
export async function* follow(id, signal) {
  for (let wait = 500; ; wait = Math.min(wait * 2, 8000)) {
    try {
      for await (const event of events(await send(`dalle/jobs/${id}/events`, { signal }))) {
        wait = 500;
        if (event.dalle?.picture) event.dalle.picture = located(event.dalle.picture);
        yield event;
        if (event.type === "dalle.done" || event.type === "error") return;
      }
    } catch (error) {
      if (signal?.aborted || (error instanceof Problem && error.status)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** The events of a stream of the server. */
export async function* events(answer) {
  let text = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (text + value).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice(6));
    }
  }
}
