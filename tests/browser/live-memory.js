// Keeps live pages open, and answers each line of the input with what they hold: `cargo xtask bench live-memory`.

import { createInterface } from "node:readline";
import { parseFlags, start } from "./browser.js";

const flags = parseFlags({ url: { type: "string" }, pages: { type: "string", default: "10" } });
const { browser, open, complaints } = await start(flags);

/** Counts the reports that the page gets. */
function count() {
  globalThis.reports = 0;
  const { addEventListener } = EventSource.prototype;
  EventSource.prototype.addEventListener = function (type, listener, ...rest) {
    const counted = (event) => {
      if (type === "report") globalThis.reports += 1;
      return listener.call(this, event);
    };
    return addEventListener.call(this, type, counted, ...rest);
  };
}

const pages = [];
for (let index = 0; index < Number(flags.pages); index += 1) {
  const page = await open(flags.url, { before: count });
  await page.locator("#transactions .rows tr").first().waitFor();
  const session = await page.context().newCDPSession(page);
  await session.send("Performance.enable");
  pages.push({ page, session });
}

for await (const _ of createInterface({ input: process.stdin })) {
  const sum = { heap_bytes: 0, nodes: 0, reports: Infinity, complaints };
  for (const { page, session } of pages) {
    await session.send("HeapProfiler.collectGarbage");
    const { metrics } = await session.send("Performance.getMetrics");
    const value = (wanted) => metrics.find(({ name }) => name === wanted).value;
    sum.heap_bytes += value("JSHeapUsedSize");
    sum.nodes += value("Nodes");
    sum.reports = Math.min(sum.reports, await page.evaluate(() => globalThis.reports));
  }
  console.log(JSON.stringify(sum));
}
await browser.close();
