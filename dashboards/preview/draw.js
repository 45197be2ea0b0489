// Renders every dashboard from a live Prometheus to OUT/UID.png. Each image is labeled as a preview: Grafana's components
// render the panels, and this package implements the dashboard layout, the queries and the transformations.
//
//     node draw.js --prometheus=http://127.0.0.1:9090 --chromium=/usr/bin/chromium --out=pictures [--minutes=5]

import { createServer } from "node:http";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const { values: flags } = parseArgs({
  options: {
    prometheus: { type: "string", default: "http://127.0.0.1:9090" },
    chromium: { type: "string" },
    out: { type: "string" },
    minutes: { type: "string", default: "5" },
    operation: { type: "string", default: "POST /api/retainers/{id}/consume" },
    // Renders only one dashboard, by its uid; one row of it, by its title; and the name of the image.
    row: { type: "string" },
    only: { type: "string" },
    // The end of the time range, in seconds since 1970; by default the current time.
    until: { type: "string", default: "" },
    name: { type: "string" },
  },
});
if (!flags.chromium || !flags.out) {
  console.error("usage: node draw.js --prometheus=URL --chromium=FILE --out=FOLDER");
  process.exit(2);
}

console.error("==> bundling Grafana's components");
const { outputFiles } = await build({
  entryPoints: [here("app.jsx")],
  bundle: true,
  write: false,
  format: "iife",
  jsx: "automatic",
  loader: { ".svg": "dataurl", ".ttf": "dataurl", ".woff2": "dataurl" },
  alias: { "react-custom-scrollbars-2": here("scrollbars.jsx") },
  // Everything is inside the bundle; the names are those that bundlers for browsers define.
  define: { "process.env.NODE_ENV": '"production"', global: "globalThis" },
  logLevel: "error",
  outdir: here("."),
});
const bundle = Object.fromEntries(outputFiles.map((file) => [file.path.split(".").pop(), file.text]));

const folder = here("..");
const uids = readdirSync(folder).filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -".json".length));
const html = `<!doctype html><meta charset="utf-8"><style>${bundle.css ?? ""}</style><div id="root"></div><script src="/app.js"></script>`;

const server = createServer(async (request, response) => {
  const url = new URL(request.url, "http://preview");
  try {
    if (url.pathname.startsWith("/api/")) {
      const answer = await fetch(flags.prometheus + request.url);
      response.writeHead(answer.status, { "content-type": "application/json" }).end(await answer.text());
    } else if (url.pathname === "/app.js") {
      response.writeHead(200, { "content-type": "text/javascript" }).end(bundle.js);
    } else if (url.pathname.startsWith("/dashboards/") && uids.includes(url.pathname.slice("/dashboards/".length))) {
      const file = `${folder}/${url.pathname.slice("/dashboards/".length)}.json`;
      response.writeHead(200, { "content-type": "application/json" }).end(readFileSync(file));
    } else if (url.pathname === "/") {
      response.writeHead(200, { "content-type": "text/html" }).end(html);
    } else {
      response.writeHead(404).end();
    }
  } catch (error) {
    response.writeHead(502).end(String(error));
  }
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));

mkdirSync(flags.out, { recursive: true });
const browser = await chromium.launch({ executablePath: flags.chromium, args: ["--no-sandbox", "--disable-gpu"] });
let failed = 0;
for (const uid of uids.filter((uid) => !flags.only || uid === flags.only)) {
  const page = await browser.newPage({ viewport: { width: 1600, height: 900 } });
  page.on("pageerror", (error) => console.error(`${uid}: ${error.message}`));
  const query = new URLSearchParams({ uid, minutes: flags.minutes, operation: flags.operation, row: flags.row ?? "", until: flags.until });
  await page.goto(`http://127.0.0.1:${server.address().port}/?${query}`);
  await page.waitForFunction(() => window.drawn !== undefined, undefined, { timeout: 120_000 });
  const { panels, empty } = await page.evaluate(() => window.drawn);
  const file = `${flags.out}/${flags.name ?? uid}.png`;
  await page.screenshot({ path: file, fullPage: true });
  console.log(`${file}: ${panels} panels${empty.length ? `, without data: ${empty.join("; ")}` : ""}`);
  failed += panels === 0;
  await page.close();
}
await browser.close();
server.close();
process.exit(failed ? 1 : 0);
