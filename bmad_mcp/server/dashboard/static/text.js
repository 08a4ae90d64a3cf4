// Makes elements. Stored text is untrusted: it becomes text nodes only, isolated from its neighbours' direction, and
// characters that nobody sees are named. Nothing here, or in any view, sets HTML.

// Controls, bidirectional marks, zero-width characters and tags. The two joiners stay: words and emoji need them.
const UNSEEN =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "path", "circle", "line", "rect", "text", "g"]);

const nameOf = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

/** Stored text for an attribute or an option: unseen characters are written as [U+202E]. */
export function plain(text) {
  return String(text ?? "").replace(UNSEEN, (character) => `[${nameOf(character)}]`);
}

/** Stored text as an isolated element. */
export function shown(text) {
  const isolated = document.createElement("bdi");
  const told = String(text ?? "");
  let at = 0;
  for (const found of told.matchAll(UNSEEN)) {
    isolated.append(told.slice(at, found.index));
    isolated.append(el("span", { class: "unseen", title: "A character that is not seen" }, nameOf(found[0])));
    at = found.index + found[0].length;
  }
  isolated.append(told.slice(at));
  return isolated;
}

/** A stored name as an isolated element that may break behind its marks: `any_` `flagged_` `documents`. */
export function named(text) {
  const isolated = shown(text);
  for (const node of [...isolated.childNodes].filter((one) => one.nodeType === Node.TEXT_NODE)) {
    const parts = node.data.split(/(?<=[_/])/);
    node.replaceWith(...parts.flatMap((part, at) => (at ? [document.createElement("wbr"), part] : [part])));
  }
  return isolated;
}

/** An element; `on` holds listeners, `data` data attributes, everything else attributes. Children are words of ours. */
export function el(tag, attributes = {}, ...children) {
  const made = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (name === "data") {
      Object.assign(made.dataset, value);
    } else {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** A status as people say it. */
export const words = (status) => String(status).replaceAll("_", " ");

export const button = (label, listener, attributes = {}) =>
  el("button", { type: "button", ...attributes, on: { click: listener } }, label);

// More columns than this become lines on a small screen; the roles stay when the style takes the table apart.
const FEW_COLUMNS = 2;

/**
 * A table; `columns` are headings, each row is a list of cells: text that is stored, or elements. Where a heading stands
 * above it already, its caption is for those only who hear it.
 */
export function table(caption, columns, rows, { hasHeading = false } = {}) {
  const cells = (row) =>
    row.map((cell, at) => el("td", { role: "cell", data: { label: columns[at] } }, cell instanceof Node ? cell : shown(cell ?? "–")));
  return el(
    "div",
    { class: columns.length > FEW_COLUMNS ? "wide many" : "wide", tabindex: "0", role: "region", "aria-label": caption },
    el(
      "table",
      { role: "table" },
      el("caption", { class: hasHeading ? "heard" : undefined }, caption),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, columns.map((name) => el("th", { scope: "col", role: "columnheader" }, name)))),
      el("tbody", { role: "rowgroup" }, rows.map((row) => el("tr", { role: "row" }, cells(row)))),
    ),
  );
}

/** Figures with their names, as a list of [name, value, note]. */
export function figures(list) {
  return el(
    "dl",
    { class: "figures" },
    list.map(([name, value, note]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, String(value ?? "–"), note ? el("small", {}, note) : null)),
    ),
  );
}

/** A labelled field. */
export const labelled = (label, control) => el("label", { class: "field" }, el("span", {}, label), control);

/** Show new content in place of the old and give the focus back to the control that had it. */
export function replace(root, ...content) {
  const active = root.contains(document.activeElement) ? document.activeElement : null;
  const marked = active?.dataset.focus;
  const scrolled = [...root.querySelectorAll("[data-scroll]")].map((one) => [one.dataset.scroll, one.scrollTop, one.scrollLeft]);
  const open = [...root.querySelectorAll("details[open][data-focus]")].map((one) => one.dataset.focus);
  root.replaceChildren(...content.flat(Infinity).filter(Boolean));
  for (const [name, top, left] of scrolled) {
    root.querySelector(`[data-scroll="${CSS.escape(name)}"]`)?.scrollTo({ top, left, behavior: "instant" });
  }
  for (const name of open) root.querySelector(`details[data-focus="${CSS.escape(name)}"]`)?.setAttribute("open", "");
  if (marked) root.querySelector(`[data-focus="${CSS.escape(marked)}"]`)?.focus({ preventScroll: true });
}
