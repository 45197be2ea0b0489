// A table of thousands of rows, of which only those in view are in the document.
//
// The rows are updated by key. The table has the keyboard focus and names the selected row, so that the focus survives
// rows that come, go and scroll out of view.

import { keyed, make, setAttribute, setText } from "./dom.js";

/** Rows above and below those in view, so that scrolling shows no gap. */
const OVERSCAN = 12;

let tables = 0;

export class VirtualTable {
  #columns;
  #keyOf;
  #open;
  #items = [];
  #sort;
  #selected = null;
  #rowHeight = 30;
  #number = ++tables;
  #rows = 0;

  /** Columns are `{title, text, order, className, isNumber}`; `open` is called with the item of a row. */
  constructor(root, { label, columns, keyOf, open, sort }) {
    this.#columns = columns;
    this.#keyOf = keyOf;
    this.#open = open;
    this.#sort = sort;
    const spacer = () => make("tr", { "aria-hidden": "true" }, make("td", { colspan: String(columns.length) }));
    [this.before, this.after] = [spacer(), spacer()];
    this.body = make("tbody", { className: "rows" });
    this.headers = columns.map((column, index) => {
      const button = make("button", { type: "button" }, column.title);
      button.addEventListener("click", () => this.#sortBy(index));
      return make("th", { scope: "col", className: column.className ?? "" }, button);
    });
    const hidden = { "aria-hidden": "true" };
    this.table = make(
      "table",
      { role: "grid", "aria-label": label, tabindex: "0" },
      make("colgroup", {}, ...columns.map((column) => make("col", { className: column.className ?? "" }))),
      make("thead", {}, make("tr", {}, ...this.headers)),
      make("tbody", hidden, this.before),
      this.body,
      make("tbody", hidden, this.after),
    );
    this.scroll = make("div", { className: "scroll" }, this.table);
    root.append(this.scroll);
    let isDue = false;
    this.scroll.addEventListener("scroll", () => {
      if (isDue) return;
      isDue = true;
      requestAnimationFrame(() => {
        isDue = false;
        this.#render();
      });
    });
    this.table.addEventListener("keydown", (event) => this.#key(event));
    this.body.addEventListener("click", (event) => {
      const item = event.target.closest("tr")?.item;
      if (!item) return;
      this.select(this.#keyOf(item));
      this.#open(item);
    });
    new ResizeObserver(() => this.#render()).observe(this.scroll);
  }

  /** Shows these items. */
  set(items) {
    this.#items = items;
    this.#order();
    this.#render();
  }

  select(key) {
    this.#selected = key;
    this.#render();
  }

  focus() {
    this.table.focus({ preventScroll: true });
  }

  #sortBy(index) {
    const isSame = this.#sort.index === index;
    this.#sort = { index, isDescending: isSame ? !this.#sort.isDescending : Boolean(this.#columns[index].isNumber) };
    this.#order();
    this.#render();
  }

  #order() {
    const { index, isDescending } = this.#sort;
    const { order } = this.#columns[index];
    const sign = isDescending ? -1 : 1;
    // Computed once per item and not once per comparison.
    const keys = new Map(this.#items.map((item) => [item, order(item)]));
    this.#items.sort((one, other) => {
      const [a, b] = [keys.get(one), keys.get(other)];
      return a === b ? 0 : a < b ? -sign : sign;
    });
  }

  #render() {
    const items = this.#items;
    this.scroll.hidden = items.length === 0;
    this.headers.forEach((header, index) => {
      const { isDescending } = this.#sort;
      setAttribute(header, "aria-sort", index === this.#sort.index ? (isDescending ? "descending" : "ascending") : null);
    });
    const inView = Math.ceil(this.scroll.clientHeight / this.#rowHeight);
    // The list may have become shorter than where it was scrolled to.
    const top = Math.min(Math.floor(this.scroll.scrollTop / this.#rowHeight), Math.max(0, items.length - inView));
    const first = Math.max(0, top - OVERSCAN);
    const count = inView + 2 * OVERSCAN;
    const shown = items.slice(first, first + count);
    keyed(this.body, shown, this.#keyOf, () => this.#row(), (row, item) => this.#update(row, item));
    shown.forEach((_, index) => setAttribute(this.body.children[index], "aria-rowindex", String(first + index + 2)));
    setAttribute(this.table, "aria-rowcount", String(items.length + 1));
    this.#space(this.before, first);
    this.#space(this.after, Math.max(0, items.length - first - shown.length));
    const selected = this.body.querySelector("[aria-selected=true]");
    setAttribute(this.table, "aria-activedescendant", selected?.id ?? null);
    const height = this.body.firstElementChild?.offsetHeight;
    if (height && height !== this.#rowHeight) {
      this.#rowHeight = height;
      this.#render();
    }
  }

  #space(row, count) {
    row.hidden = count === 0;
    row.firstElementChild.style.height = `${count * this.#rowHeight}px`;
  }

  #row() {
    const id = `row-${this.#number}-${++this.#rows}`;
    return make("tr", { id }, ...this.#columns.map((column) => make("td", { className: column.className ?? "" })));
  }

  #update(row, item) {
    row.item = item;
    setAttribute(row, "aria-selected", String(this.#keyOf(item) === this.#selected));
    this.#columns.forEach((column, index) => {
      const cell = row.children[index];
      const text = column.text(item);
      setText(cell, text);
      if (cell.title !== text) cell.title = text;
      if (column.kind) setAttribute(cell, "data-kind", column.kind(item));
    });
  }

  #key(event) {
    if (event.target !== this.table) return;
    const last = this.#items.length - 1;
    const at = this.#items.findIndex((item) => this.#keyOf(item) === this.#selected);
    const page = Math.max(1, Math.floor(this.scroll.clientHeight / this.#rowHeight) - 2);
    const moves = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: last };
    if (event.key in moves && last >= 0) {
      const to = Math.min(last, Math.max(0, moves[event.key]));
      this.#scrollTo(to);
      this.select(this.#keyOf(this.#items[to]));
      event.preventDefault();
    } else if ((event.key === "Enter" || event.key === " ") && at >= 0) {
      this.#open(this.#items[at]);
      event.preventDefault();
    }
  }

  #scrollTo(index) {
    const head = this.table.tHead.offsetHeight;
    const top = index * this.#rowHeight;
    const bottom = top + this.#rowHeight + head;
    if (top < this.scroll.scrollTop) this.scroll.scrollTop = top;
    else if (bottom > this.scroll.scrollTop + this.scroll.clientHeight) {
      this.scroll.scrollTop = bottom - this.scroll.clientHeight;
    }
  }
}
