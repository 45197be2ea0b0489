// The tree of blockers: its root is the cause, and what is below it waits.

import { byId, keyed, make, setAttribute, setText } from "./dom.js";
import { commandOn, grouped, namespaces, time, transactionName, waitsFor, words } from "./text.js";

/** Beyond this, the tree is cut off: it is for reading. */
const MAX_ROWS = 200;
const MAX_INDENT = 8;

const entry = (report, reference) => {
  const [[list, index]] = Object.entries(reference);
  const data = { transaction: report.transactions, waiting: report.waiting, running: report.running }[list]?.[index];
  return { list, data, report };
};

/** The key of an entry, which is the same in all reports. */
export function entryKey({ list, data }) {
  const id = list === "transaction" ? `${data.session} ${data.txn_number}` : data.opid;
  return `${list} ${data.member} ${id}`;
}

/** What an entry is, and what is known about it. */
function describe(report, entries) {
  const [{ list, data }] = entries;
  if (entries.length > 1) {
    const longest = Math.max(...entries.map(({ data }) => data.waiting_seconds ?? 0));
    const what = data.waits_for?.kind === "document" ? "a document, holder unknown" : waitsFor(data);
    return [`${grouped(entries.length)} × ${commandOn(data)}`, `wait up to ${time(longest)} for ${what}`];
  }
  if (list === "transaction") {
    const since = data.idle_seconds === null ? words(data.state) : `${words(data.state)} for ${time(data.idle_seconds)}`;
    const holds = data.namespaces.length ? `, holds ${namespaces(data)}` : "";
    return [`transaction ${transactionName(data)}`, `${since}, open for ${time(data.age_seconds)}${holds}`];
  }
  if (list === "running") return [commandOn(data), `runs for ${time(data.running_seconds)}`];
  const names = data.candidates.length > 1 ? `, candidates: ${candidates(report, data)}` : "";
  return [commandOn(data), `waits ${time(data.waiting_seconds)} for ${waitsFor(data)}${names}`];
}

/** The open transactions that may hold the document. */
export function candidates(report, { candidates, more_blockers: more }) {
  const names = candidates.slice(0, 3).map((reference) => name(report, reference));
  const others = candidates.length - names.length + more;
  return names.join(", ") + (others > 0 ? ` and ${grouped(others)} more` : "");
}

/** A short name of the entry that a reference leads to. */
export function name(report, reference) {
  const { list, data } = entry(report, reference);
  if (!data) return "-";
  return list === "transaction" ? `transaction ${transactionName(data)}` : commandOn(data);
}

/** Shows the trees of all deployments; `open` is called with the list and the data of an entry. */
export function showTree(deployments, open) {
  const rows = deployments.flatMap(({ report, tree }) =>
    tree.map((row) => ({ ...row, report, entries: row.entries.map((reference) => entry(report, reference)) })),
  );
  const valid = rows.filter(({ entries }) => entries.length && entries.every(({ data }) => data));
  byId("tree-empty").hidden = valid.length > 0;
  const more = byId("tree-more");
  more.hidden = valid.length <= MAX_ROWS;
  setText(more, `${grouped(valid.length - MAX_ROWS)} more rows are not shown.`);
  keyed(
    byId("tree"),
    valid.slice(0, MAX_ROWS),
    ({ entries }) => entryKey(entries[0]),
    () => createRow(open),
    updateRow,
  );
}

function createRow(open) {
  const level = make("span", { className: "hidden" });
  const subject = make("button", { type: "button" });
  const item = make("li", {}, level, subject, make("strong"), make("span"));
  subject.addEventListener("click", () => open(item.entry));
  return item;
}

function updateRow(item, { depth, certain, blocks, entries, report }) {
  [item.entry] = entries;
  const [level, subject, behind, rest] = item.children;
  const [title, text] = describe(report, entries);
  const relation = certain ? "waits for the row above" : "possibly waits for the row above";
  setText(level, depth > 0 ? `Level ${depth + 1}, ${relation}: ` : "");
  setAttribute(item, "data-depth", String(Math.min(depth, MAX_INDENT)));
  setAttribute(item, "data-certain", String(certain));
  setText(subject, title);
  setText(behind, blocks === 0 ? "" : blocks === 1 ? ", 1 waits behind" : `, ${grouped(blocks)} wait behind`);
  setText(rest, `: ${text}`);
}
