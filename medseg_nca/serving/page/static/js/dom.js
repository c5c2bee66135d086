// Elements of the page. Text from a server only ever becomes text, never markup.

export const $ = (id) => document.getElementById(id);

/** An element with properties; `on` holds listeners, `data` and `aria` attributes. */
export function make(tag, { on = {}, data = {}, aria = {}, ...properties } = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  Object.assign(element.dataset, data);
  for (const [name, value] of Object.entries(aria)) element.setAttribute(`aria-${name}`, value);
  element.append(...inside);
  return element;
}

export const show = (element, on = true) => {
  element.hidden = !on;
};

/** Say something to people who hear the page. */
export function say(text) {
  if ($("said").textContent !== text) $("said").textContent = text;
}
