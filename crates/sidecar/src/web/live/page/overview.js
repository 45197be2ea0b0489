// Members, problems, checks and collectors.

import { byId, keyed, make, setAttribute, setRow, setSparkline, setText, sparkline, textRow } from "./dom.js";
import { ago, grouped, optional, plain, rate, time, transactionName, words } from "./text.js";

const RATES = [
  ["commits_per_second", "Commits per second"],
  ["aborts_per_second", "Aborts per second"],
  ["write_conflicts_per_second", "Write conflicts per second"],
  ["lock_waits_per_second", "Lock waits per second"],
];

const LONGEST_QUEUES = 3;

/** The members of all deployments, with their history from the sidecar's regular polls. */
export function showMembers(deployments, sidecar) {
  const known = new Map((sidecar?.members ?? []).map((member) => [member.member, member]));
  const reported = deployments.flatMap(({ report }) =>
    report.members.map((member) => ({ ...member, replicaSet: report.replica_set })),
  );
  // Before the first report, the members are those of the regular polls.
  const members = reported.length ? reported : [...known.values()].map(unreported);
  const update = (row, member) => updateMember(row, member, known.get(member.member)?.history);
  keyed(byId("members").tBodies[0], members, ({ member }) => member, createMember, update);
  keyed(
    byId("member"),
    [{ member: "" }, ...members],
    ({ member }) => member,
    ({ member }) => make("option", { value: member }, member ? plain(member) : "all"),
    () => {},
  );
}

const unreported = ({ member, replica_set: replicaSet }) => ({
  member,
  replicaSet,
  role: null,
  state: "connecting",
  open_transactions: null,
  rates: null,
});

function createMember() {
  const number = () => make("td", { className: "number" }, make("span"), sparkline());
  return make(
    "tr",
    {},
    make("th", { scope: "row" }, make("span"), make("small")),
    make("td"),
    make("td", { className: "kind" }),
    number(),
    ...RATES.map(number),
  );
}

function updateMember(row, member, history) {
  const [name, role, state, open, ...rates] = row.children;
  setText(name.children[0], plain(member.member));
  setText(name.children[1], member.replicaSet ? ` ${plain(member.replicaSet)}` : "");
  setText(role, optional(member.role));
  setText(state, words(member.state));
  setAttribute(state, "data-kind", member.state);
  setText(open.children[0], member.open_transactions === null ? "-" : grouped(member.open_transactions));
  setSparkline(open.children[1], history?.open_transactions ?? [], "Open transactions");
  RATES.forEach(([property, label], index) => {
    setText(rates[index].children[0], rate(member.rates?.[property]));
    setSparkline(rates[index].children[1], history?.[property] ?? [], label);
  });
}

/** What a member does not report, and why; and what transactions wait for in the backends. */
export function showProblems(deployments) {
  const ofMembers = deployments.flatMap(({ report }) => report.members.flatMap((member) => problemsOf(report, member)));
  // The same backend can be that of several deployments.
  const problems = [...new Set([...ofMembers, ...deployments.flatMap(({ report }) => waitsInBackends(report))])];
  const list = byId("problems");
  list.hidden = problems.length === 0;
  keyed(list, problems, (text) => text, () => make("li"), setText);
}

function problemsOf(report, { member, state, error, missing, truncated, rates, conflict_candidates: candidates }) {
  const address = plain(member);
  const problems = error ? [`${address}: ${plain(error)}`] : [];
  if (state !== "answers") return problems;
  for (const { part, message } of missing) problems.push(`${address}: ${words(part)}: ${plain(message)}`);
  if (truncated) problems.push(`${address}: it has more operations than are shown, the oldest and the waiting ones`);
  const [oldest, ...others] = candidates.map(({ transaction }) => report.transactions[transaction]);
  if (oldest) {
    const more = ["", " or another one"][others.length] ?? ` or one of ${others.length} others`;
    const cause = `${transactionName(oldest)} (idle for ${time(oldest.idle_seconds)})${more}`;
    const conflicts = rate(rates.write_conflicts_per_second);
    problems.push(`${address}: ${conflicts} write conflicts per second abort transactions, probably because of ${cause}`);
  }
  return problems;
}

/** The longest queues of the backends, and the pools that have no connection left. The server sees nothing of either. */
function waitsInBackends({ queues, pools }) {
  const longest = queues.slice(0, LONGEST_QUEUES).map(({ backend, key, operation, waiting }) => {
    const holder = operation === null ? "" : `, which ${plain(operation)} holds`;
    return `${plain(backend)}: ${grouped(waiting)} waiting for the key ${plain(key)}${holder}`;
  });
  const isExhausted = ({ in_use: inUse, max_size: size, waiting }) => (size !== null && inUse >= size) || waiting > 0;
  const exhausted = pools.filter(isExhausted).map(({ backend, server, in_use: inUse, max_size: size, waiting }) => {
    const of = size === null ? "" : ` of ${grouped(size)}`;
    const more = waiting > 0 ? `, and ${grouped(waiting)} wait for one` : "";
    return `${plain(backend)}: ${grouped(inUse)}${of} connections to ${plain(server)} are in use${more}`;
  });
  return [...longest, ...exhausted];
}

/** The checks of the data, those with violations first. */
export function showChecks({ checks }) {
  byId("checks-empty").hidden = checks.length > 0;
  byId("checks").hidden = checks.length === 0;
  const urgency = ({ violations, failure }) => (violations > 0 ? 0 : failure ? 1 : 2);
  const sorted = [...checks].sort((one, other) => urgency(one) - urgency(other));
  keyed(
    byId("checks").tBodies[0],
    sorted,
    ({ replica_set: replicaSet, check }) => `${replicaSet} ${check}`,
    () => textRow(Array(7).fill("")),
    (row, check) =>
      setRow(row, [
        plain(check.check),
        optional(check.replica_set),
        check.severity,
        [check.violations === null ? "-" : grouped(check.violations), check.violations > 0 ? "number bad" : "number"],
        [check.documents_examined === null ? "-" : grouped(check.documents_examined), "number"],
        `${ago(check.last_success)} (every ${time(check.interval_seconds)})`,
        [check.failure ? words(check.failure) : "-", check.failure ? "bad" : ""],
      ]),
  );
}

/** The collectors of the regular polls, and what fails. */
export function showCollectors({ members }) {
  const collectors = members.flatMap(({ member, collectors }) => collectors.map((of) => ({ member, ...of })));
  const sorted = collectors.sort((one, other) => Number(!one.failure) - Number(!other.failure));
  keyed(
    byId("collectors").tBodies[0],
    sorted,
    ({ member, collector }) => `${member} ${collector}`,
    () => textRow(Array(4).fill("")),
    (row, { member, collector, polled_at: polledAt, failure }) =>
      setRow(row, [plain(member), collector, ago(polledAt), [failure ? words(failure) : "-", failure ? "bad" : ""]]),
  );
}

/** The targets that are polled on demand. */
export function showTargets({ targets }) {
  const create = (target) => make("a", { href: `probe?target=${encodeURIComponent(target)}` }, `Target ${plain(target)}`);
  keyed(byId("targets"), targets, (target) => target, create, () => {});
}
