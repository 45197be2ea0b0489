// The driver's transactions, counted by its command events. The counters belong together:
// started = committed + aborted + unknown + open.
import { Counter, Gauge } from 'prom-client';

const counter = (name, help, labels = []) =>
  new Counter({ name: `mongodb_client_transactions_${name}_total`, help, labelNames: ['operation', ...labels] });
const started = counter('started', 'Attempts at a transaction whose first statement was passed to the driver. Each retry counts again.');
const committed = counter('committed', 'Attempts that are known to have committed.');
const aborted = counter('aborted', 'Attempts that changed nothing, by reason.', ['reason']);
const unknown = counter('unknown', 'Attempts whose commit was sent and whose result was not learned, or not as widely written as was asked.');
const openGauge = new Gauge({
  name: 'mongodb_client_transactions_open', help: 'Attempts that have begun and not ended.', labelNames: ['operation'],
});

/** Reasons by the codes of the server's errors. */
const REASONS = { 24: 'lock_timeout', 50: 'max_time_expired', 112: 'write_conflict', 251: 'no_such_transaction', 11000: 'duplicate_key' };

/** Open transactions by session: a session runs one at a time. */
const open = new Map();

/** The table of the route `/-/transactions`, the oldest first. */
export function openTransactions() {
  const now = Date.now();
  return [...open].map(([lsid, { txnNumber, operation, since }]) => ({
    lsid, txnNumber, operation, sinceSeconds: since / 1000, openSeconds: (now - since) / 1000,
  }));
}

/** @param currentOperation returns the operation of the code that sends the command */
export function countTransactions(client, operations, currentOperation) {
  for (const operation of [...operations, 'unscoped']) {
    [started, committed, unknown, openGauge].forEach((metric) => metric.inc({ operation }, 0));
    ['application', 'other', ...Object.values(REASONS)].forEach((reason) => aborted.inc({ operation, reason }, 0));
  }
  const sessions = new Map();
  client.on('commandStarted', ({ requestId, commandName, command }) => {
    if (command.autocommit !== false) {
      return;
    }
    const lsid = command.lsid.id.toUUID().toString();
    sessions.set(requestId, lsid);
    if (command.startTransaction) {
      // The driver has given up the one before without a reply to its end.
      end(lsid, (transaction) => (transaction.committing ? unknown : aborted));
      const operation = currentOperation();
      open.set(lsid, { operation, txnNumber: Number(command.txnNumber), since: Date.now(), reason: undefined, committing: false });
      started.inc({ operation });
      openGauge.inc({ operation });
    } else if (commandName === 'commitTransaction' && open.has(lsid)) {
      open.get(lsid).committing = true;
    }
  });
  client.on('commandSucceeded', ({ requestId, commandName, reply }) => {
    const lsid = take(requestId);
    if (commandName === 'commitTransaction' && !reply.writeConcernError) {
      end(lsid, () => committed);
    } else if (commandName === 'abortTransaction') {
      end(lsid, () => aborted);
    }
  });
  client.on('commandFailed', ({ requestId, commandName, failure }) => {
    const lsid = take(requestId);
    const transaction = open.get(lsid);
    if (transaction && commandName !== 'abortTransaction') {
      transaction.reason = REASONS[failure.code] ?? 'other';
    }
    // The driver sends a commit again whose result it did not learn.
    const changedNothing = commandName === 'commitTransaction' && failure.hasErrorLabel?.('TransientTransactionError');
    if (changedNothing || commandName === 'abortTransaction') {
      end(lsid, () => aborted);
    }
  });

  function take(requestId) {
    const lsid = sessions.get(requestId);
    sessions.delete(requestId);
    return lsid;
  }
}

function end(lsid, counterOf) {
  const transaction = open.get(lsid);
  if (!transaction) {
    return;
  }
  open.delete(lsid);
  const { operation, reason = 'application' } = transaction;
  openGauge.dec({ operation });
  const ended = counterOf(transaction);
  ended.inc(ended === aborted ? { operation, reason } : { operation });
}
