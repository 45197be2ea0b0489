// Measures how long the live page blocks the browser's main thread: `cargo xtask bench live`.

import { parseFlags, start } from "./browser.js";
import { serve } from "./fixture.js";

const flags = parseFlags({ seconds: { type: "string", default: "20" } });
const { browser, open, complaints } = await start(flags);

/** Collects the start and the duration of the tasks of the main thread that take more than 50 ms. */
function observe() {
  globalThis.longTasks = [];
  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) globalThis.longTasks.push({ startTime, duration });
  }).observe({ type: "longtask", buffered: true });
}

/** The duration of the longest task; the browser reports none below 50 ms. */
const longest = (tasks) => (tasks.length ? `${Math.max(...tasks.map(({ duration }) => duration)).toFixed(0)} ms` : "below 50 ms");

console.log("| open transactions | first rows | longest task until then | tasks over 50 ms after it | longest task after it | rows in the document |");
console.log("| --- | --- | --- | --- | --- | --- |");
for (const count of [100, 5_000]) {
  const fixture = await serve(count);
  const page = await open(fixture.url, { before: observe });
  await page.locator("#transactions .rows tr").first().waitFor();
  const first = await page.evaluate(() => performance.now());
  // A user who scrolls, filters and sorts, while a report arrives each second.
  const end = Date.now() + 1_000 * Number(flags.seconds);
  while (Date.now() < end) {
    for (const filter of ["orders/3", ""]) {
      await page.fill("#filter", filter);
      await page.waitForTimeout(300);
    }
    await page.getByRole("button", { name: "Age" }).click();
    await page.evaluate(() => document.querySelector("#transactions .scroll").scrollBy(0, 4_000));
    await page.waitForTimeout(300);
  }
  const [tasks, rows] = await page.evaluate(() => [globalThis.longTasks, document.querySelectorAll("#transactions .rows tr").length]);
  const [loading, using] = [tasks.filter(({ startTime }) => startTime < first), tasks.filter(({ startTime }) => startTime >= first)];
  const cells = [count, `${(first / 1000).toFixed(1)} s`, longest(loading), `${using.length} in ${flags.seconds} s`, longest(using), rows];
  console.log(`| ${cells.join(" | ")} |`);
  await page.context().close();
  fixture.close();
}
await browser.close();
for (const complaint of complaints) console.error(complaint);
process.exit(0);
