// Holds the live page to a known situation: `tests/suites/live_page.rs` makes it, and ends it when this script prints `shown`.

import assert from "node:assert/strict";
import { createServer, request as forward } from "node:http";
import { parseFlags, start } from "./browser.js";
import { serve } from "./fixture.js";

const LIMIT = 60_000;
const flags = parseFlags({ url: { type: "string" }, pictures: { type: "string" }, seconds: { type: "string", default: "0" } });
const { browser, open, complaints } = await start(flags);

/** A reverse proxy that serves the sidecar below a prefix. */
async function proxy(prefix) {
  const server = createServer((request, response) => {
    if (!request.url.startsWith(`${prefix}/`)) return response.writeHead(404).end();
    const { method, headers } = request;
    const passed = forward(flags.url + request.url.slice(prefix.length), { method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    passed.on("error", () => response.destroy());
    response.on("close", () => passed.destroy());
    request.pipe(passed);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return `http://127.0.0.1:${server.address().port}${prefix}`;
}

/** Waits until a condition on the page holds. */
async function until(what, condition) {
  const end = Date.now() + LIMIT;
  for (;;) {
    const found = await condition();
    if (found === true) return;
    if (Date.now() > end) throw new Error(`${what}: ${JSON.stringify(found)}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

const isText = (locator, text) => async () => {
  const found = await locator.textContent();
  return found.includes(text) || found;
};
const isCount = (locator, count) => async () => {
  const found = await locator.count();
  return found === count || `${found} elements`;
};

const parts = (page) => ({
  status: page.getByRole("status"),
  tree: page.locator("#tree li"),
  transactions: page.getByRole("grid", { name: "Open transactions" }),
  rows: page.locator("#transactions .rows tr"),
  waiting: page.locator("#waiting .rows tr"),
  filter: page.getByRole("searchbox"),
  details: page.locator("#details"),
});

async function showsWhoWaitsForWhom(page) {
  const { status, tree, rows, waiting } = parts(page);
  await until("the state", isText(status, "Live"));
  await until("two transactions", isCount(rows, 2));
  await until("the root", isText(tree.nth(0), "transaction POST /orders (shop), 6 wait behind: idle for "));
  await until("the index build", isText(tree.nth(1), "createIndexes on shop.orders, 5 wait behind: waits "));
  await until("the writers", isText(tree.nth(2), "5 × update on shop.orders: wait up to "));
  assert.deepEqual(await tree.evaluateAll((all) => all.slice(0, 3).map((row) => row.dataset.depth)), ["0", "1", "2"]);
  const stock = waiting.filter({ hasText: "update on shop.stock" });
  await until("the conflict", isText(stock, "a document, holder unknown, "));
  await until("the candidate", isText(stock, "transaction POST /stock (shop)"));
  await until("the member", isText(page.locator("#members tbody"), "primary"));
  await until("the check", isText(page.locator("#checks tbody tr").first(), "orders_without_customer"));
  assert.match(await page.locator("#checks tbody td.bad").textContent(), /^40$/);
  await until("the collectors", isText(page.locator("#collectors tbody"), "server_status"));
  const line = page.getByRole("img", { name: /Commits per second in the last 15 minutes/ });
  await until("the history", async () => (await line.count()) > 0);
}

async function changesWithoutReload(page) {
  const age = page.locator("#transactions .rows tr").first().locator("td").nth(2);
  const before = await age.textContent();
  await until("another age", async () => (await age.textContent()) !== before || before);
  const { status } = parts(page);
  const pause = page.getByRole("button", { name: "Pause" });
  await pause.click();
  await until("the pause", isText(status, "Paused"));
  assert.equal(await pause.getAttribute("aria-pressed"), "true");
  await pause.click();
  await until("the state", isText(status, "Live"));
}

async function filtersAndShowsDetailsByKeyboard(page) {
  const { filter, rows, transactions, details } = parts(page);
  await page.keyboard.press("/");
  await page.keyboard.type("stock SHOP");
  await until("one transaction", isCount(rows, 1));
  await until("the count", isText(page.locator("#transactions-count"), "1 of 2"));
  assert.match(await rows.textContent(), /POST \/stock/);
  await filter.fill("");
  await until("two transactions", isCount(rows, 2));
  await transactions.focus();
  await page.keyboard.press("End");
  await page.keyboard.press("Enter");
  await until("the details", async () => details.isVisible());
  await until("the session", isText(details, "Session"));
  assert.match(await details.textContent(), /IX on collection shop\.(orders|stock)/);
  await page.keyboard.press("Escape");
  assert.equal(await details.isVisible(), false);
  assert.equal(await page.evaluate(() => document.activeElement.role), "grid");
  await page.locator("#tree button").first().click();
  await until("the details of the root", isText(details, "POST /orders (shop)"));
  await page.getByRole("button", { name: "Close" }).click();
}

async function stopsWhileHidden(page) {
  const { status } = parts(page);
  const hide = (isHidden) =>
    page.evaluate((isHidden) => {
      Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, isHidden);
  await hide(true);
  await until("the stop", isText(status, "Stopped"));
  await hide(false);
  await until("the state", isText(status, "Live"));
}

async function showsThousandsOfRowsAndNoMarkup() {
  const { url, close } = await serve(5_000);
  const page = await open(url);
  const { rows, transactions, filter } = parts(page);
  await until("the number of rows", async () => (await transactions.getAttribute("aria-rowcount")) === "5001");
  assert.ok((await rows.count()) < 100, "most of the rows are not in the document");
  const cause = "db1:27017: 12.0 write conflicts per second abort transactions, probably because of <img src=x ";
  await until("the cause of conflicts", isText(page.locator("#problems"), cause));
  const problems = page.locator("#problems li");
  const waits = ["1,200 waiting for the key <b>7</b>, which POST /orders holds", "10 of 10 connections to db1:27017 are in use"];
  const expected = waits.map((wait) => `10.0.0.7:3000: ${wait}`);
  assert.deepEqual((await problems.allTextContents()).slice(-2), expected, "the pool of db2 has a free connection");
  await transactions.focus();
  await page.keyboard.press("End");
  await until("the last row", async () => {
    const selected = page.locator("#transactions tr[aria-selected=true]");
    return (await selected.getAttribute("aria-rowindex")) === "5001" && (await selected.isVisible());
  });
  await filter.fill("onerror");
  // In the next frame, although the list was scrolled to its end.
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  assert.equal(await rows.count(), 1);
  assert.match(await rows.textContent(), /<img src=x onerror=alert\(1\)>\\u\{202e\}/);
  assert.equal(await page.locator("main img").count(), 0);
  await page.context().close();
  close();
}

async function takePictures(url) {
  await new Promise((done) => setTimeout(done, 1_000 * Number(flags.seconds)));
  for (const colorScheme of ["light", "dark"]) {
    const page = await open(url, { colorScheme, deviceScaleFactor: 1.5 });
    await until("two transactions", isCount(parts(page).rows, 2));
    await page.locator("#tree button").first().click();
    await until("the checks", isText(page.locator("#checks tbody"), "orders_without_customer"));
    await page.evaluate(() => document.activeElement.blur() ?? scrollTo(0, 0));
    await page.screenshot({ path: `${flags.pictures}/live-${colorScheme}.png` });
    await page.context().close();
  }
}

const base = await proxy("/prefix");
const page = await open(`${base}/live`);
page.setDefaultTimeout(LIMIT);
await showsWhoWaitsForWhom(page);
await changesWithoutReload(page);
await filtersAndShowsDetailsByKeyboard(page);
await stopsWhileHidden(page);
await showsThousandsOfRowsAndNoMarkup();
if (flags.pictures) await takePictures(`${base}/live`);
console.log("shown");
await until("no tree", async () => page.locator("#tree-empty").isVisible());
await until("no transaction", async () => page.locator("#transactions-empty").isVisible());
assert.deepEqual(complaints, []);
await browser.close();
process.exit(0);
