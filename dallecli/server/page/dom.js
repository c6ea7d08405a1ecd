/** Elements, said in short. Text is always text: nothing that anybody wrote becomes markup. */

export const $ = (selector) => document.querySelector(selector);

/** An element with properties, handlers (`onclick`), attributes, and children: elements or text. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && name !== "list" && name !== "role") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let fading;

/** Say something in the status line, which screen readers read out. */
export function say(text, { stays = false } = {}) {
  const line = $("#status");
  clearTimeout(fading);
  line.textContent = text;
  line.classList.toggle("shown", text !== "");
  if (!stays) fading = setTimeout(() => line.classList.remove("shown"), 6000);
}

/**
 * Show a dialog; focus goes back to where it was. Resolves with what it was closed with; "" by Esc, and by a click beside
 * it unless it `stays`.
 */
export function dialog(title, content, { wide = false, stays = false, actions = [], label = "Close" } = {}) {
  const before = document.activeElement;
  const close = h("button", { type: "button", className: "plain", onclick: () => box.close("") }, label);
  const box = h(
    "dialog",
    { className: wide ? "wide" : "", "aria-label": title },
    h("div", { className: "line head" }, h("h2", {}, title), h("span", { className: "grow" }), close),
    ...content,
    actions.length ? h("div", { className: "line end" }, ...actions) : null,
  );
  document.body.append(box);
  box.showModal();
  box.addEventListener("click", (event) => !stays && event.target === box && box.close(""));
  const closed = new Promise((resolve) => {
    box.addEventListener("close", () => {
      box.remove();
      if (before?.isConnected) before.focus();
      resolve(box.returnValue);
    });
  });
  return { box, closed };
}

/** Ask something; true if it was answered with the button of that name. */
export async function ask(title, text, yes) {
  const button = h("button", { type: "button", className: "main", onclick: () => box.close("yes") }, yes);
  const { box, closed } = dialog(title, [h("p", {}, text)], { actions: [button], label: "Cancel" });
  return (await closed) === "yes";
}

/** Put text on the clipboard, also where pages may not (no HTTPS): then it is shown, to be copied by hand. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`${what} copied`);
  } catch {
    const field = h("textarea", { value: text, readOnly: true, rows: 4, autofocus: true, "aria-label": what });
    dialog(`Copy the ${what.toLowerCase()}`, [h("p", {}, "This browser does not let the page copy by itself."), field]);
    field.select();
  }
}
