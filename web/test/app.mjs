// Drives `mossformer-jax app` in headless Chromium: node app.mjs REQUEST, a JSON file. Prints what it has seen as JSON.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { chromium } from "playwright-core";

const { executable, address, recording, broken, output } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const quiet = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"];

const browser = await chromium.launch({ executablePath: executable, args: quiet });
try {
  const context = await browser.newContext({ acceptDownloads: true, viewport: { width: 1100, height: 1500 } });
  const page = await context.newPage();
  page.setDefaultTimeout(240_000);
  const requests = new Set();
  page.on("request", (request) => requests.add(new URL(request.url()).origin));
  // The name of a file is shown only while it is uploaded, the player afterwards. That of a file which the browser cannot
  // decode is hidden again at once.
  const player = page.locator('[aria-label="Play"], .waveform-container');
  const upload = async (path) => {
    if (await player.count()) throw new Error("there is a player before the upload");
    await page.locator('input[type="file"]').first().setInputFiles(path);
    await player.first().waitFor({ state: "attached" });
  };
  await page.goto(address);

  await page.getByRole("button", { name: "Separate" }).click();
  const withoutRecording = await page.locator(".toast-body").first().innerText();
  await page.locator(".toast-close").first().click();
  await page.locator(".toast-body").first().waitFor({ state: "detached" });

  await upload(broken);
  await page.getByRole("button", { name: "Separate" }).click();
  const withText = await page.locator(".toast-body").first().innerText();
  await page.goto(address);

  await upload(recording);
  await page.getByRole("button", { name: "Separate" }).click();
  const links = page.locator("a[download]").filter({ hasText: /KB|MB/ });
  await links.nth(1).waitFor();
  for (const number of [0, 1]) {
    const [saved] = await Promise.all([page.waitForEvent("download"), links.nth(number).click()]);
    await saved.saveAs(join(output, `source${number + 1}.wav`));
  }
  await page.locator("img").first().waitFor();
  await page.waitForTimeout(1000);
  await page.screenshot({ path: join(output, "app.png"), fullPage: true });
  const text = await page.innerText("body");
  console.log(JSON.stringify({ withoutRecording, withText, requests: [...requests], text }));
} finally {
  await browser.close();
}
