// Chromium, and what must never happen on the live page.

import { parseArgs } from "node:util";

/** The flags of a script: the program of the browser, and the module that drives it, besides those given. */
export function parseFlags(options) {
  const { values } = parseArgs({ options: { chromium: { type: "string" }, playwright: { type: "string" }, ...options } });
  for (const name of ["chromium", "playwright"]) {
    if (!values[name]) {
      console.error(`--${name}=FILE is missing`);
      process.exit(2);
    }
  }
  return values;
}

/** Starts the browser. `open` opens a page, and calls `before` in it first; `complaints` has each error, violation, and request to another place. */
export async function start({ chromium: executablePath, playwright }) {
  const { chromium } = await import(playwright);
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const complaints = [];
  const open = async (url, { before, ...options } = {}) => {
    const context = await browser.newContext({ viewport: { width: 1500, height: 1150 }, ...options });
    const page = await context.newPage();
    // The console also has violations of the content security policy and missing files.
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) complaints.push(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => complaints.push(`error: ${error.stack}`));
    page.on("request", (request) => {
      if (!request.url().startsWith(new URL(".", url).href)) complaints.push(`request: ${request.url()}`);
    });
    await page.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective}`));
    });
    if (before) await page.addInitScript(before);
    await page.goto(url);
    return page;
  };
  return { browser, open, complaints };
}
