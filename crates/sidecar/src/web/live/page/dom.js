// Elements of the page. All text is set as text, so that text of servers and clients never becomes markup.

const SVG = "http://www.w3.org/2000/svg";
const childrenByKey = new WeakMap();

export const byId = (id) => document.getElementById(id);

/** An element with a class, attributes and children: elements or text. */
export function make(name, { className, ...attributes } = {}, ...children) {
  const node = document.createElement(name);
  if (className) node.className = className;
  for (const [attribute, value] of Object.entries(attributes)) node.setAttribute(attribute, value);
  node.append(...children);
  return node;
}

/** Sets the text of an element; no change of the document if it is the same. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Makes the children of an element those of a list. A child stays the same element as long as its key is in the list. */
export function keyed(parent, items, keyOf, create, update) {
  const known = childrenByKey.get(parent) ?? new Map();
  const wanted = new Map();
  for (const item of items) {
    let key = keyOf(item);
    while (wanted.has(key)) key += "+";
    wanted.set(key, item);
  }
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  for (const [key, node] of known) if (!wanted.has(key)) node.remove();
  const now = new Map();
  let place = parent.firstElementChild;
  for (const [key, item] of wanted) {
    const node = known.get(key) ?? create(item);
    now.set(key, node);
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  childrenByKey.set(parent, now);
  // An element that moves loses the focus.
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

/** A row with one cell for each text; the first one is the header of the row. */
export function textRow(cells) {
  const row = make("tr");
  cells.forEach((_, index) => row.append(index === 0 ? make("th", { scope: "row" }) : make("td")));
  return row;
}

/** Sets the texts of a row, and the class of each cell that has one: `[text, class]`. */
export function setRow(row, cells) {
  cells.forEach((cell, index) => {
    const [text, className] = Array.isArray(cell) ? cell : [cell, ""];
    setText(row.children[index], text);
    if (row.children[index].className !== className) row.children[index].className = className;
  });
}

/** A line of values over time; `null` is a gap. */
export function sparkline() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 90 20");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "sparkline");
  svg.setAttribute("role", "img");
  svg.append(document.createElementNS(SVG, "path"));
  return svg;
}

export function setSparkline(svg, values, label) {
  const most = values.reduce((most, value) => Math.max(most, value ?? 0), 0);
  const step = 90 / Math.max(values.length - 1, 1);
  let path = "";
  let isGap = true;
  values.forEach((value, index) => {
    if (value !== null) {
      const y = most > 0 ? 19 - (18 * value) / most : 19;
      path += `${isGap ? "M" : "L"}${(index * step).toFixed(1)} ${y.toFixed(1)}`;
    }
    isGap = value === null;
  });
  setAttribute(svg.firstChild, "d", path || "M0 19");
  setAttribute(svg, "aria-label", `${label} in the last 15 minutes: at most ${most.toFixed(1)}`);
}
