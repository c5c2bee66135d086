// The texts of one language at a time, from texts/LANGUAGE.json.

const LANGUAGES = ["en", "de"];
const KEY = "medseg-language";

let texts = {};
export let language = "en";

function wanted() {
  let chosen = null;
  try {
    chosen = localStorage.getItem(KEY);
  } catch {
    // The browser keeps nothing for this page.
  }
  const known = [chosen, ...navigator.languages].map((name) => (name ?? "").slice(0, 2).toLowerCase());
  return known.find((name) => LANGUAGES.includes(name)) ?? LANGUAGES[0];
}

/** Load a language, the wanted one by default, and write its texts into the page. */
export async function speak(name = null) {
  if (name !== null) {
    try {
      localStorage.setItem(KEY, name);
    } catch {
      // As above: the choice then lasts as long as the page.
    }
  }
  language = name ?? wanted();
  const answer = await fetch(`/page/texts/${language}.json`);
  texts = await answer.json();
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-t-label]"))
    element.setAttribute("aria-label", t(element.dataset.tLabel));
}

/** A text, with its {names} filled in. */
export function t(key, values = {}) {
  return (texts[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** For numbers and times: the reader's country, where it is one of the language. */
const locale = () => navigator.languages.find((name) => name.startsWith(language)) ?? language;

export const has = (key) => key in texts;

export const number = (value, digits = 0) =>
  new Intl.NumberFormat(locale(), { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value);

/** The time, with the day unless it is today. */
export function time(text) {
  const when = new Date(text);
  const isToday = when.toDateString() === new Date().toDateString();
  const style = isToday ? { timeStyle: "medium" } : { dateStyle: "short", timeStyle: "short" };
  return new Intl.DateTimeFormat(locale(), style).format(when);
}

/** Bytes in a unit that people read. */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${number(bytes, bytes < 10 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}
