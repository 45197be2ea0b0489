// The caller's metrics of txnscope, on prom-client: to copy. The contract is in docs/prom-client.md.
import { AsyncLocalStorage } from 'node:async_hooks';
import { Router } from 'express';
import { Counter, Gauge, Histogram, register } from 'prom-client';
import { watchConnectionPools } from './connection-pools.js';
import { countTransactions, openTransactions } from './driver-counters.js';

const ENDED = ['succeeded', 'rejected', 'failed', 'cancelled'];
const labelNames = ['operation'];
const attempts = new Counter({ name: 'transaction_attempts_total', help: 'Operations admitted, with any outcome.', labelNames });
const failures = new Counter({
  name: 'transaction_failures_total', help: 'Operations that did not succeed, by outcome and reason.',
  labelNames: ['operation', 'outcome', 'reason'],
});
const duration = new Histogram({
  name: 'transaction_duration_seconds', help: 'Time from admission of an operation to its response, its failure or its cancellation.',
  labelNames: ['operation', 'outcome'],
  // The alerts on latency read the bucket 0.25.
  buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
});
const inFlight = new Gauge({ name: 'concurrent_operations', help: 'Operations in flight.', labelNames });

/** The operation that the running code belongs to. */
const current = new AsyncLocalStorage();

/**
 * Counts the operations, the transactions of the MongoDB client, and serves both.
 *
 * @param {Record<string, string[]>} operations the reasons for rejections, by method and route template
 * @param client the MongoClient, connected with monitorCommands: true
 */
export function observe(operations, client) {
  const router = Router();
  const known = Object.entries(operations).map(([operation, reasons]) => {
    const allowed = new Set([...reasons, 'invalid_request', 'unauthorized', 'application', 'timeout', 'other']);
    // A rate over a series that appears with its first failure misses that failure: all series exist from the start.
    attempts.inc({ operation }, 0);
    inFlight.inc({ operation }, 0);
    ENDED.forEach((outcome) => duration.zero({ operation, outcome }));
    ['invalid_request', ...reasons].forEach((reason) => failures.inc({ operation, outcome: 'rejected', reason }, 0));
    failures.inc({ operation, outcome: 'failed', reason: 'other' }, 0);
    failures.inc({ operation, outcome: 'cancelled', reason: 'cancelled' }, 0);
    return { operation, allowed, pattern: new RegExp(`^${operation.replace(/\{[^}]+\}/g, '[^/]+')}$`) };
  });

  const pools = watchConnectionPools(client);
  // Clients do not see them: what a proxy forwards is refused.
  const local = (request, response, next) => (request.get('x-forwarded-for') ? response.sendStatus(403) : next());
  router.get('/metrics', local, async (_request, response) => response.type(register.contentType).send(await register.metrics()));
  router.get('/-/transactions', local, (_request, response) => response.json({ transactions: openTransactions(), pools: pools() }));

  router.use((request, response, next) => {
    const found = known.find(({ pattern }) => pattern.test(`${request.method} ${request.path}`));
    if (!found) {
      next();
      return;
    }
    const { operation, allowed } = found;
    attempts.inc({ operation });
    inFlight.inc({ operation });
    const end = duration.startTimer({ operation });
    response.once('close', () => {
      const { outcome, reason } = classify(response, allowed);
      inFlight.dec({ operation });
      end({ outcome });
      if (outcome !== 'succeeded') {
        failures.inc({ operation, outcome, reason });
      }
    });
    current.run(operation, next);
  });
  countTransactions(client, Object.keys(operations), () => current.getStore() ?? 'unscoped');
  return router;
}

/** The outcome by the status; the reason that the error handler has left in `response.locals`, if it is one of the declared. */
function classify({ writableFinished, statusCode, locals }, allowed) {
  if (!writableFinished) {
    return { outcome: 'cancelled', reason: 'cancelled' };
  }
  if (statusCode < 400) {
    return { outcome: 'succeeded' };
  }
  const failed = statusCode >= 500 || statusCode === 408;
  const usual = failed ? 'other' : statusCode === 401 || statusCode === 403 ? 'unauthorized' : 'invalid_request';
  return { outcome: failed ? 'failed' : 'rejected', reason: allowed.has(locals.reason) ? locals.reason : usual };
}
