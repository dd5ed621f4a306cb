// CHROMIUM=... node check_page.mjs [screenshot.png]: the page, as people use it: digits drawn with the mouse and with a
// finger, on a wide screen and on a phone. Exit status: 0 all holds, 1 something does not.
import { openPage, serve } from "./chromium.mjs";

const circle = Array.from({ length: 25 }, (_, i) => [128 + 50 * Math.sin((i * Math.PI) / 12), 128 - 80 * Math.cos((i * Math.PI) / 12)]);
const DIGITS = { 0: [circle], 1: [[[128, 40], [128, 216]]], 7: [[[70, 50], [186, 50], [110, 216]]] };
const failures = [];
const demand = (holds, what) => holds || failures.push(what);
const texts = (page, kind) => page.locator(`#files td.${kind}`).allTextContents();

async function mouse(page, box, stroke) {
  const [first, ...others] = stroke.map(([x, y]) => [box.x + x, box.y + y]);
  await page.mouse.move(...first);
  await page.mouse.down();
  for (const point of others) await page.mouse.move(...point, { steps: 6 });
  await page.mouse.up();
}

async function finger(page, box, stroke) {
  const session = await page.context().newCDPSession(page);
  const touch = (type, ...points) => session.send("Input.dispatchTouchEvent", { type, touchPoints: points });
  const at = ([x, y]) => ({ x: box.x + x, y: box.y + y });
  await touch("touchStart", at(stroke[0]));
  for (const point of stroke.slice(1)) await touch("touchMove", at(point));
  await touch("touchEnd");
}

const server = await serve();
const report = {};
for (const [screen, options, draw] of [
  ["wide", { viewport: { width: 1000, height: 900 } }, mouse],
  ["phone", { viewport: { width: 375, height: 812 }, hasTouch: true, isMobile: true }, finger],
]) {
  const { browser, page, requests, errors } = await openPage(`${server.address}/`, options);
  try {
    await page.locator("#status", { hasText: /Ready|does not work/ }).waitFor({ timeout: 60000 });
    const status = await page.locator("#status").textContent();
    demand(status === "Ready.", `${screen}: ${status}`);
    const found = { codes: await texts(page, "codes"), latency: await texts(page, "latency"), runtime: await texts(page, "runtime") };
    demand(found.codes.length === 2 && found.codes.every((text) => text.startsWith("yes: 0 of ")), `${screen}: codes equal: ${found.codes}`);
    demand(found.latency.every((text) => parseFloat(text) > 0), `${screen}: latency ${found.latency}`);
    const box = await page.locator("#pad").boundingBox();
    found.digits = {};
    for (const [digit, strokes] of Object.entries(DIGITS)) {
      await page.locator("#clear").click();
      for (const stroke of strokes) await draw(page, box, stroke);
      await page.waitForFunction(() => [...document.querySelectorAll("td.digit")].every((cell) => cell.textContent));
      await page.waitForTimeout(100);
      found.digits[digit] = await texts(page, "digit");
      demand(found.digits[digit].every((text) => text === digit), `${screen}: a ${digit} is taken for ${found.digits[digit]}`);
    }
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    demand(width <= options.viewport.width, `${screen}: ${width} pixels wide`);
    demand(requests.every((url) => url.startsWith(server.address) || /^(data|blob):/.test(url)), `${screen}: asks ${requests}`);
    demand(!errors.length, `${screen}: ${errors.join("; ")}`);
    if (process.argv[2] && screen === "wide") await page.screenshot({ path: process.argv[2] });
    report[screen] = found;
  } finally {
    await browser.close();
  }
}
server.close();
console.log(JSON.stringify(report, null, 1));
for (const failure of failures) console.error(failure);
process.exitCode = failures.length ? 1 : 0;
