// The columns of the two long tables, and the details of one entry.

import { byId, keyed, make, setText } from "./dom.js";
import { commandOn, grouped, namespaces, optional, plain, time, transactionName, waitsFor, words } from "./text.js";
import { candidates, entryKey, name } from "./tree.js";

const seconds = (title, of) => ({
  title,
  text: ({ data }) => time(of(data)),
  // Whole seconds, so that rows that wait alike keep their order.
  order: ({ data }) => Math.floor(of(data) ?? -1),
  className: "number",
  isNumber: true,
});
const text = (title, of, className = "") => ({ title, text: ({ data }) => of(data), order: ({ data }) => of(data), className });

export const TRANSACTION_COLUMNS = [
  text("Operation", transactionName, "name"),
  { ...text("State", ({ state }) => words(state), "kind"), kind: ({ data }) => data.state },
  seconds("Age", (data) => data.age_seconds),
  seconds("Idle", (data) => data.idle_seconds),
  seconds("Ends in", (data) => data.expires_in_seconds),
  {
    title: "Behind it",
    text: ({ blocks }) => (blocks ? grouped(blocks) : "-"),
    order: ({ blocks }) => blocks,
    className: "number",
    isNumber: true,
  },
  text("Namespaces", namespaces, "name"),
  text("Client", ({ client }) => optional(client), "address"),
  text("Member", ({ member }) => plain(member), "address"),
];

export const WAITING_COLUMNS = [
  text("Operation", commandOn, "name"),
  seconds("Waits", (data) => data.waiting_seconds),
  text("Waits for", waitsFor, "name"),
  {
    title: "Blocked by",
    text: ({ report, data }) => blockers(report, data),
    order: ({ data }) => data.blocked_by.length + data.more_blockers,
    className: "name",
    isNumber: true,
  },
  {
    title: "Candidates",
    text: ({ report, data }) => (data.candidates.length ? candidates(report, data) : "-"),
    order: ({ data }) => data.candidates.length,
    className: "name",
    isNumber: true,
  },
  text("Application", ({ application }) => optional(application), "address"),
  text("Member", ({ member }) => plain(member), "address"),
];

function blockers(report, { blocked_by: all, candidates, more_blockers: more }) {
  const names = all.slice(0, 2).map((reference) => name(report, reference));
  const others = all.length - names.length + (candidates.length ? 0 : more);
  if (!names.length) return others ? grouped(others) : "-";
  return names.join(", ") + (others > 0 ? ` and ${grouped(others)} more` : "");
}

/** The items of one list of all deployments. */
export function items(deployments, list, property) {
  return deployments.flatMap(({ report, tree }) => {
    const blocks = countBlocked(tree);
    return report[property].map((data, index) => {
      const item = { list, data, report, blocks: list === "transaction" ? (blocks.get(index) ?? 0) : 0 };
      item.key = entryKey(item);
      return item;
    });
  });
}

/** How many operations wait behind each transaction, directly or not. */
function countBlocked(tree) {
  return new Map(tree.filter(({ entries }) => entries.length === 1).map(({ entries, blocks }) => [entries[0].transaction, blocks]));
}

/** Whether an item has all words of a filter. */
export function matches({ data }, words, member) {
  if (member && data.member !== member) return false;
  if (words.length === 0) return true;
  const { operation, application, client, command, state, session, namespace, namespaces: all } = data;
  const texts = [operation, application, client, command, state, session, namespace, ...(all ?? [])];
  const haystack = texts.filter(Boolean).join(" ").toLowerCase();
  return words.every((word) => haystack.includes(word));
}

/** Shows what is known about an entry. */
export function showDetails({ list, data, report, blocks }) {
  const rows = list === "transaction" ? transactionDetails(data, blocks) : operationDetails(list, data, report);
  setText(byId("details-heading"), list === "transaction" ? transactionName(data) : commandOn(data));
  const pairs = rows.flatMap(([term, text]) => [
    { name: "dt", text: term, key: `term ${term}` },
    { name: "dd", text, key: `value ${term}` },
  ]);
  keyed(byId("details-list"), pairs, ({ key }) => key, ({ name }) => make(name), (node, { text }) => setText(node, text));
}

function transactionDetails(data, blocks) {
  const locks = data.locks.map(({ mode, resource, name }) => `${mode} on ${resource} ${plain(name)}`);
  return [
    ["Operation", optional(data.operation)],
    ["Application", optional(data.application)],
    ["Client", optional(data.client)],
    ["Driver", optional(data.driver)],
    ["Member", plain(data.member)],
    ["State", words(data.state)],
    ["Age", time(data.age_seconds)],
    ["Idle for", time(data.idle_seconds)],
    ["Active for", time(data.active_seconds)],
    ["Ends in", time(data.expires_in_seconds)],
    ["Runs", optional(data.command)],
    ["Read concern", optional(data.read_concern)],
    ["Wait behind it", grouped(blocks ?? 0)],
    ["Namespaces", namespaces(data)],
    ["Locks", locks.join("; ") || "-"],
    ["Session", plain(data.session)],
    ["Transaction number", String(data.txn_number)],
  ];
}

function operationDetails(list, data, report) {
  const details = [
    ["Command", plain(data.command)],
    ["Namespace", optional(data.namespace)],
    ["Application", optional(data.application)],
    ["Client", optional(data.client)],
    ["Member", plain(data.member)],
    ["Runs for", time(data.running_seconds)],
    ["Operation id", String(data.opid)],
  ];
  if (list !== "waiting") return details;
  return [
    ...details,
    ["Driver", optional(data.driver)],
    ["Waits for", `${waitsFor(data)}, ${time(data.waiting_seconds)}`],
    ["Write conflicts", grouped(data.write_conflicts)],
    ["Blocked by", data.blocked_by.map((reference) => name(report, reference)).join(", ") || "-"],
    ["Candidates", data.candidates.map((reference) => name(report, reference)).join(", ") || "-"],
  ];
}
