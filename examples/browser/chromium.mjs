// A folder served on this machine alone, and a page of it opened in headless Chromium (CHROMIUM names the program).
import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const TYPES = { ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript" };
const MORE = { ".json": "application/json", ".wasm": "application/wasm" };
export const FOLDER = fileURLToPath(new URL(".", import.meta.url));

/** Serve this folder, with some further files by address; gives {address, close}. */
export async function serve(further = {}) {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const file = further[path] ?? join(FOLDER, normalize(path.endsWith("/") ? `${path}index.html` : path));
    if (!(path in further) && !file.startsWith(FOLDER) || !existsSync(file) || !statSync(file).isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { "Content-Type": { ...TYPES, ...MORE }[extname(file)] ?? "application/octet-stream" });
    createReadStream(file).pipe(response);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return { address: `http://127.0.0.1:${server.address().port}`, close: () => server.close() };
}

/** Open an address in a new browser; gives {browser, page, requests, errors}. */
export async function openPage(address, options = {}) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu"],
    headless: true,
  });
  const page = await browser.newPage(options);
  const [requests, errors] = [[], []];
  page.on("request", (request) => requests.push(request.url()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("console", (message) => {
    const said = /^(INFO|WARNING): /.test(message.text()); // LiteRT.js writes all that it says as errors
    if (message.type() === "error" && !said) errors.push(message.text());
  });
  await page.goto(address);
  return { browser, page, requests, errors };
}
