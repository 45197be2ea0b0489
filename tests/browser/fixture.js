// A server of the page's files with events that are made up: thousands of transactions, of which some change.

import { createServer } from "node:http";
import { readFileSync } from "node:fs";

const FOLDER = new URL("../../crates/sidecar/src/web/live/page/", import.meta.url);
const TYPES = { html: "text/html; charset=utf-8", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };

function transaction(index, tick) {
  const isIdle = index % 3 !== 0;
  return {
    member: "db1:27017",
    // Text that must not become markup, and a mark that would turn the text after it around.
    operation: index === 1 ? "<img src=x onerror=alert(1)>\u202e" : `POST /orders/${index % 40}`,
    application: "shop",
    client: `10.0.${index % 200}.7:${40_000 + index}`,
    driver: "mongo-rust-driver 3.9.1",
    session: `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`,
    txn_number: 1 + Math.floor((index + tick * 97) / 5_000),
    state: isIdle ? "idle" : "active",
    age_seconds: index + tick,
    idle_seconds: isIdle ? index / 2 : null,
    active_seconds: 0.1,
    expires_in_seconds: 60,
    read_concern: "snapshot",
    command: isIdle ? null : "update",
    namespaces: ["shop.orders", `shop.stock${index % 10}`],
    locks: [
      { resource: "database", name: "shop", mode: "IX" },
      { resource: "collection", name: "shop.orders", mode: "IX" },
    ],
  };
}

const writer = (index) => ({
  member: "db1:27017",
  opid: index,
  command: "update",
  namespace: "shop.orders",
  application: "shop",
  client: `10.0.9.9:${40_000 + index}`,
  driver: "mongo-rust-driver 3.9.1",
  transaction: null,
  waits_for: { kind: "lock", resource: "collection", name: "shop.orders", mode: "IX" },
  waiting_seconds: 3,
  running_seconds: 3.1,
  write_conflicts: 0,
  blocked_by: [{ transaction: 0 }],
  candidates: [],
  more_blockers: 0,
});

/** The data of the event `report`, at one of a series of moments. */
export function report(count, tick) {
  const rates = { commits_per_second: 900, aborts_per_second: 3, write_conflicts_per_second: 12, lock_waits_per_second: 1 };
  const member = { member: "db1:27017", role: "primary", state: "answers", error: null, answered_seconds_ago: 0.1 };
  const members = [{ ...member, open_transactions: count, truncated: false, rates, missing: [], conflict_candidates: [{ transaction: 1 }] }];
  const transactions = Array.from({ length: count }, (_, index) => transaction(index, tick));
  const waiting = Array.from({ length: 200 }, (_, index) => writer(index));
  const entries = waiting.map((_, index) => ({ waiting: index }));
  const queues = [{ backend: "10.0.0.7:3000", key: "<b>7</b>", operation: "POST /orders", waiting: 1_200 }];
  const pool = { backend: "10.0.0.7:3000", server: "db1:27017", connections: 10, max_size: 10, waiting: null };
  const pools = [{ ...pool, in_use: 10 }, { ...pool, server: "db2:27017", in_use: 9 }];
  const tree = [
    { depth: 0, entries: [{ transaction: 0 }], certain: true, blocks: 200 },
    { depth: 1, entries, certain: true, blocks: 0 },
  ];
  return { deployments: [{ report: { replica_set: "rs0", members, transactions, waiting, running: [], queues, pools }, tree }] };
}

/** The data of the event `sidecar`. */
export function sidecar() {
  const line = () => Array.from({ length: 90 }, (_, index) => 50 + 40 * Math.sin(index / 9));
  const series = ["open_transactions", "commits_per_second", "aborts_per_second", "write_conflicts_per_second", "lock_waits_per_second"];
  const history = { step_seconds: 10, ...Object.fromEntries(series.map((name) => [name, line()])) };
  const collectors = [{ collector: "server_status", polled_at: Date.now() / 1000, failure: null }];
  const members = [{ member: "db1:27017", replica_set: "rs0", up: true, collectors, history }];
  return { version: "0", telemetry_path: "metrics", targets: [], members, checks: [] };
}

const event = (name, data) => `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;

/** Serves the page with `count` transactions, and a new report each second. */
export async function serve(count) {
  const server = createServer((request, response) => {
    if (request.url === "/live/events") {
      response.writeHead(200, { "content-type": "text/event-stream" });
      let tick = 0;
      response.write(event("sidecar", sidecar()) + event("report", report(count, tick)));
      const timer = setInterval(() => response.write(event("report", report(count, ++tick))), 1_000);
      request.on("close", () => clearInterval(timer));
      return;
    }
    const name = request.url === "/live" ? "page.html" : request.url.replace("/live/", "");
    if (!/^[a-z]+\.(html|css|js|svg)$/.test(name)) return response.writeHead(404).end();
    const text = readFileSync(new URL(name, FOLDER), "utf8").replace("{metrics}", "metrics").replace("{version}", "");
    response.writeHead(200, { "content-type": TYPES[name.split(".").pop()] }).end(text);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { url: `http://127.0.0.1:${server.address().port}/live`, close: () => server.closeAllConnections() ?? server.close() };
}
