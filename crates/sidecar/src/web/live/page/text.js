// Words for transactions, waits and times: those of `txnscope top`.

const HIDDEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A text of a server or client, with the characters visible that would change the order of others or show nothing. */
export function plain(text) {
  return text.replace(HIDDEN, (hidden) => `\\u{${hidden.codePointAt(0).toString(16)}}`);
}

export const optional = (text) => (text === null || text === undefined ? "-" : plain(text));

export const grouped = (number) => String(number).replace(/\B(?=(\d{3})+$)/g, ",");

export const rate = (number) => (number === null || number === undefined ? "-" : number.toFixed(1));

/** A time in the two units that matter: `0.4 s`, `12 s`, `3m 05s`, `2h 07m`. */
export function time(seconds) {
  if (seconds === null || seconds === undefined) return "-";
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  if (seconds < 10) return `${(Math.floor(seconds * 10) / 10).toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m ${two(seconds % 60)}s`;
  return `${Math.floor(seconds / 3600)}h ${two((seconds / 60) % 60)}m`;
}

export const words = (name) => name.replaceAll("_", " ");

/** The name of a transaction: its operation, else its application, else its session. */
export function transactionName({ operation, application, session }) {
  if (operation && application) return `${plain(operation)} (${plain(application)})`;
  return operation || application ? plain(operation ?? application) : `session ${plain(session)}`;
}

export const namespaces = ({ namespaces }) => (namespaces.length ? plain(namespaces.join(", ")) : "-");

/** A command on its namespace. */
export function commandOn({ command, namespace }) {
  return namespace ? `${plain(command)} on ${plain(namespace)}` : plain(command);
}

/** What an operation waits for, and what is known about the holder. */
export function waitsFor({ waits_for: { kind, resource, name, mode }, write_conflicts: conflicts }) {
  if (kind === "lock") {
    if (!resource || !mode) return "a lock";
    return name ? `lock ${mode} on ${plain(resource)} ${plain(name)}` : `lock ${mode} on ${plain(resource)}`;
  }
  if (kind === "document") return `a document, holder unknown, ${grouped(conflicts)} write conflicts`;
  return "a prepared transaction";
}

/** The time since a moment in seconds since 1970. */
export function ago(moment) {
  return moment === null || moment === undefined ? "-" : `${time(Math.max(0, Date.now() / 1000 - moment))} ago`;
}
