// The live page. Each event replaces the state; what differs in the document is changed in the next frame.

import { connect } from "./connection.js";
import { byId, setAttribute, setText } from "./dom.js";
import { showChecks, showCollectors, showMembers, showProblems, showTargets } from "./overview.js";
import { TRANSACTION_COLUMNS, WAITING_COLUMNS, items, matches, showDetails } from "./rows.js";
import { VirtualTable } from "./table.js";
import { grouped, time } from "./text.js";
import { entryKey, showTree } from "./tree.js";

const STATES = {
  connecting: "Connecting",
  live: "Live",
  paused: "Paused",
  hidden: "Stopped while this page is hidden",
  lost: "The sidecar does not answer, or asks for a login; trying again",
};

const state = {
  deployments: [],
  sidecar: null,
  /** The newest report while the page is paused. */
  next: null,
  connection: "connecting",
  isPaused: false,
  receivedAt: null,
  opened: null,
  openedFrom: null,
};

const open = (item) => {
  state.opened = { key: entryKey(item), item };
  state.openedFrom = document.activeElement;
  renderDetails();
  byId("details").focus({ preventScroll: true });
  // On a narrow screen the details are above the lists.
  if (matchMedia("(max-width: 70rem)").matches) byId("details").scrollIntoView();
};

const table = (id, label, columns, sort) =>
  new VirtualTable(byId(id), { label, columns, keyOf: ({ key }) => key, open, sort });
const transactions = table("transactions", "Open transactions", TRANSACTION_COLUMNS, { index: 2, isDescending: true });
const waiting = table("waiting", "Waiting operations", WAITING_COLUMNS, { index: 1, isDescending: true });

/** What is shown of each list before the filter. */
const all = { transactions: [], waiting: [] };

/** The parts of the page, in the order in which they are rendered. */
const PARTS = [
  () => {
    showProblems(state.deployments);
    showMembers(state.deployments, state.sidecar);
  },
  () => showTree(state.deployments, open),
  () => {
    all.transactions = items(state.deployments, "transaction", "transactions");
    showList(transactions, "transactions", all.transactions, "No transaction is open.");
  },
  () => {
    all.waiting = items(state.deployments, "waiting", "waiting");
    showList(waiting, "waiting", all.waiting, "No operation waits.");
  },
  () => renderDetails(),
  () => {
    const { sidecar } = state;
    if (!sidecar) return;
    showChecks(sidecar);
    showCollectors(sidecar);
    showTargets(sidecar);
  },
];

function showList(table, id, all, none) {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = all.filter((item) => matches(item, words, byId("member").value));
  const isFiltered = shown.length !== all.length;
  setText(byId(`${id}-count`), isFiltered ? `${grouped(shown.length)} of ${grouped(all.length)}` : grouped(all.length));
  const empty = byId(`${id}-empty`);
  empty.hidden = shown.length > 0;
  setText(empty, isFiltered ? "The filter matches none." : none);
  table.set(shown);
}

function renderDetails() {
  byId("details").hidden = !state.opened;
  if (!state.opened) return;
  const now = [...all.transactions, ...all.waiting].find(({ key }) => key === state.opened.key);
  // An operation outside of transactions is in the tree only.
  if (now) state.opened.item = now;
  byId("details-ended").hidden = Boolean(now) || state.opened.item.list === "running";
  showDetails(state.opened.item);
}

function closeDetails() {
  state.opened = null;
  byId("details").hidden = true;
  if (state.openedFrom?.isConnected) state.openedFrom.focus();
}

/** Milliseconds of one frame for rendering; the parts that are left follow in the next one. */
const FRAME_BUDGET = 20;

let left = [];
function schedule() {
  if (left.length === 0) requestAnimationFrame(render);
  left = [...PARTS];
}

// The first rendering of thousands of rows would otherwise block the page for longer than a person overlooks.
function render() {
  const begin = performance.now();
  while (left.length > 0) {
    left.shift()();
    if (performance.now() - begin > FRAME_BUDGET) break;
  }
  if (left.length > 0) requestAnimationFrame(render);
}

function renderState() {
  const kind = state.isPaused && state.connection === "live" ? "paused" : state.connection;
  setText(byId("status"), STATES[kind]);
  setAttribute(byId("status"), "data-kind", kind);
}

/** The age of the report, each second: servers with thousands of open transactions are polled less often. */
function renderAge() {
  const age = state.receivedAt === null ? null : (performance.now() - state.receivedAt) / 1000;
  setText(byId("age"), age !== null && age >= 2 ? `as of ${time(age)} ago` : "");
}

function show(document) {
  state.deployments = document.deployments;
  state.receivedAt = performance.now();
  renderAge();
  schedule();
}

function pause(isPaused) {
  state.isPaused = isPaused;
  byId("pause").setAttribute("aria-pressed", String(isPaused));
  if (!isPaused && state.next) show(state.next);
  state.next = null;
  renderState();
}

byId("pause").addEventListener("click", () => pause(!state.isPaused));
byId("filter").addEventListener("input", schedule);
byId("member").addEventListener("change", schedule);
byId("details-close").addEventListener("click", closeDetails);
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.opened) closeDetails();
  const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") {
    byId("filter").focus();
    event.preventDefault();
  }
});
setInterval(renderAge, 1_000);

connect({
  report(document) {
    if (state.isPaused) state.next = document;
    else show(document);
  },
  sidecar(document) {
    state.sidecar = document;
    if (!state.isPaused) schedule();
  },
  state(connection) {
    state.connection = connection;
    renderState();
  },
});
