// Drives the page in headless Chromium: node drive.mjs REQUEST, a JSON file. Prints what it has seen as JSON.
// The request names the browser, the folder of the page, the address of an isolated server, recordings and an output folder.

import { createReadStream, existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join } from "node:path";

import { chromium } from "playwright-core";

const { executable, folder, isolated, recordings, output } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".css": "text/css" };
const MINUTES = 60_000;

/** A server without special headers, as a static host. */
function plainServer() {
  const server = createServer((request, response) => {
    const path = new URL(request.url, "http://localhost").pathname;
    const file = join(folder, path === "/" ? "index.html" : path);
    if (!existsSync(file)) return response.writeHead(404).end();
    response.writeHead(200, { "Content-Type": TYPES[extname(file)] ?? "application/octet-stream" });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

/** Opens the page, and notes requests and errors. */
async function open(context, address, seen) {
  const page = await context.newPage();
  page.setDefaultTimeout(4 * MINUTES);
  page.on("request", (request) => seen.requests.add(new URL(request.url()).origin));
  page.on("console", (message) => message.type() === "error" && seen.errors.push(message.text()));
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  await page.goto(address);
  await page.waitForSelector("body[data-threads]");
  return page;
}

const nothing = () => ({ requests: new Set(), errors: [] });
const report = (seen) => ({ requests: [...seen.requests], errors: seen.errors });

async function separate(page, file) {
  await page.setInputFiles("#file", file);
  await page.waitForSelector("body[data-result], #error:not(:empty)");
  const error = await page.textContent("#error");
  return error ? { error } : JSON.parse(await page.getAttribute("body", "data-result"));
}

/** Downloads both sources. */
async function download(page, stem) {
  for (const speaker of [1, 2]) {
    const [saved] = await Promise.all([
      page.waitForEvent("download"),
      page.getByRole("button", { name: `Download WAV: Speaker ${speaker}` }).click(),
    ]);
    await saved.saveAs(join(output, `${stem}_s${speaker}.wav`));
  }
}

/** Plays for a moment, switches tracks, and seeks. */
async function listen(page) {
  const time = async () => Number(await page.inputValue("#position"));
  const pressed = (name) => page.getByRole("button", { name, exact: true }).getAttribute("aria-pressed");
  const before = await time();
  await page.getByRole("button", { name: "Play" }).click();
  await page.waitForFunction(() => document.getElementById("position").value > 0.4);
  await page.getByRole("button", { name: "Solo: Speaker 1" }).click();
  const soloed = await pressed("Solo: Speaker 1");
  await page.getByRole("button", { name: "Mute: Speaker 2" }).click();
  const muted = await pressed("Mute: Speaker 2");
  await page.screenshot({ path: join(output, "page.png"), fullPage: true });
  await page.getByRole("button", { name: "Pause" }).click();
  const paused = await time();
  await page.focus("#position");
  await page.keyboard.press("Home");
  return { before, paused, soloed, muted, home: await time() };
}

/** Names of the elements that the Tab key reaches, from the top of the page. */
async function tabStops(page) {
  await page.evaluate(() => {
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute("tabindex");
  });
  const names = [];
  for (let i = 0; i < 14; i++) {
    await page.keyboard.press("Tab");
    const name = await page.evaluate(() => {
      const { activeElement: element } = document;
      if (element === document.body) return null;
      return element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent;
    });
    if (name === null) break;
    names.push(name.trim());
  }
  return names;
}

const scenarios = {
  async isolated(browser) {
    const [seen, context] = [nothing(), await browser.newContext({ acceptDownloads: true, viewport: { width: 1000, height: 980 } })];
    const page = await open(context, isolated, seen);
    const threads = Number(await page.getAttribute("body", "data-threads"));
    const result = await separate(page, recordings.mixture);
    await download(page, "isolated");
    return { threads, result, tabStops: await tabStops(page), playing: await listen(page), ...report(seen) };
  },

  async offline(browser) {
    const [seen, context, server] = [nothing(), await browser.newContext({ acceptDownloads: true }), await plainServer()];
    const address = `http://127.0.0.1:${server.address().port}/`;
    const page = await open(context, address, seen);
    const threads = Number(await page.getAttribute("body", "data-threads"));
    const result = await separate(page, recordings.mixture);
    await download(page, "plain");
    await page.evaluate(() => navigator.serviceWorker.ready);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    const later = await open(context, address, seen);
    const again = await separate(later, recordings.mixture);
    await download(later, "offline");
    const threadsAgain = Number(await later.getAttribute("body", "data-threads"));
    return { threads, result, threadsAgain, again, address, ...report(seen) };
  },

  async formats(browser) {
    const [seen, context] = [nothing(), await browser.newContext({ acceptDownloads: true })];
    const page = await open(context, isolated, seen);
    const results = {};
    for (const [name, file] of Object.entries(recordings)) {
      results[name] = await separate(page, file);
      if (!results[name].error) await download(page, name);
    }
    return { results, ...report(seen) };
  },

  async cancel(browser) {
    const [seen, context] = [nothing(), await browser.newContext({ acceptDownloads: true })];
    const page = await open(context, isolated, seen);
    await page.setInputFiles("#file", recordings.long);
    await page.waitForFunction(() => document.getElementById("progress").value > 0);
    const during = await page.textContent("#figures");
    await page.keyboard.press("Escape");
    const after = await page.textContent("#status");
    const hidden = await page.isHidden("#work");
    return { during, after, hidden, next: await separate(page, recordings.mixture), ...report(seen) };
  },

  async microphone(browser) {
    const [seen, context] = [nothing(), await browser.newContext({ permissions: ["microphone"] })];
    const page = await open(context, isolated, seen);
    await page.click("#record");
    await page.waitForTimeout(1500);
    await page.click("#record");
    await page.waitForSelector("body[data-result], #error:not(:empty)");
    return { error: await page.textContent("#error"), result: await page.getAttribute("body", "data-result"), ...report(seen) };
  },
};

const quiet = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"];
const microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"];
const browser = await chromium.launch({ executablePath: executable, args: [...quiet, ...microphone] });
const answers = {};
try {
  for (const [name, scenario] of Object.entries(scenarios)) {
    answers[name] = await scenario(browser).catch((error) => ({ failed: String(error.stack ?? error) }));
    for (const context of browser.contexts()) await context.close();
  }
} finally {
  await browser.close();
}
console.log(JSON.stringify(answers));
