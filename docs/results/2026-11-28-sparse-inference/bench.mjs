// CHROMIUM=... node bench.mjs FOLDER: latency of every .tflite file of a folder in LiteRT.js, one thread, interleaved.
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { openPage, serve } from "../../../examples/browser/chromium.mjs";

const folder = process.argv[2];
const names = readdirSync(folder).filter((name) => name.endsWith(".tflite")).sort();
const server = await serve(Object.fromEntries(names.map((name) => [`/given/${name}`, join(folder, name)])));
const { browser, page } = await openPage(`${server.address}/index.html?bare`);
try {
  const medians = await page.evaluate(async (names) => {
    const { openTflite } = await import("./runtimes.mjs");
    const files = [];
    for (const name of names) {
      const bytes = new Uint8Array(await (await fetch(`given/${name}`)).arrayBuffer());
      files.push({ name, file: await openTflite(bytes), times: [] });
    }
    const data = Float32Array.from({ length: 3 * 224 * 224 }, (_, i) => Math.sin(i));
    const batch = [{ dtype: "float32", shape: [1, 3, 224, 224], data }];
    for (let round = 0; round < 15; round++)
      for (const item of files) {
        const start = performance.now();
        for (let run = 0; run < 3; run++) await item.file.run(batch);
        if (round) item.times.push((performance.now() - start) / 3);
      }
    return files.map(({ name, times }) => [name, times.sort((a, b) => a - b)[times.length >> 1]]);
  }, names);
  const dense = Object.fromEntries(medians)["dense-0.0.tflite"];
  console.log(`Chromium ${browser.version()}, LiteRT.js, one thread, median of 14`);
  for (const [name, ms] of medians) console.log(name.padEnd(22), `${ms.toFixed(2)} ms`, `${(dense / ms).toFixed(2)}x`);
} finally {
  await browser.close();
  server.close();
}
