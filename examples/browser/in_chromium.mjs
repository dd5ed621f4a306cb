// CHROMIUM=... node in_chromium.mjs probe.npz results.npz probe.onnx [int8.onnx]: run files in headless Chromium, as
// probe.py does in Python.
import { writeFileSync } from "node:fs";
import { basename } from "node:path";
import { openPage, serve } from "./chromium.mjs";

const [inputs, results, ...paths] = process.argv.slice(2);
const names = paths.map((path) => basename(path));
const files = Object.fromEntries(paths.map((path, i) => [`/given/${names[i]}`, path]));
const server = await serve({ "/given/inputs.npz": inputs, ...files });
const { browser, page } = await openPage(`${server.address}/index.html?bare`);
try {
  const found = await page.evaluate(async ([names, version]) => {
    const { runProbe } = await import("./probe.mjs");
    const fetched = async (name) => (await fetch(`given/${name}`)).arrayBuffer();
    const files = [];
    for (const name of names) files.push({ name, bytes: new Uint8Array(await fetched(name)) });
    const { results, lines, off } = await runProbe(await fetched("inputs.npz"), files, `Chromium ${version}, wasm`);
    let text = "";
    for (let i = 0; i < results.length; i += 32768) text += String.fromCharCode(...results.subarray(i, i + 32768));
    return { results: btoa(text), lines, off };
  }, [names, browser.version()]);
  writeFileSync(results, Buffer.from(found.results, "base64"));
  console.log(found.lines.join("\n"));
  process.exitCode = found.off ? 1 : 0;
} finally {
  await browser.close();
  server.close();
}
