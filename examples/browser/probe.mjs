// What probe.py does on a device, in JavaScript: run files on the inputs of `codeq probe-file`, save all that they
// compute, to be judged where their checkpoint is, and compare it with what is expected, where that was sent along.
import { readNpz, writeNpz } from "./npz.mjs";
import { open } from "./runtimes.mjs";

/**
 * Run files, each {name, bytes}. Gives {results, compared, off, lines}: the bytes of a file of results for
 * `runtime_tests.parity --device-results`, codes that were compared with those expected and those that differ (0 and 0
 * where none were sent), and what to tell.
 */
export async function runProbe(inputs, files, platform) {
  const stored = await readNpz(inputs);
  const sent = JSON.parse(stored.get("about").text);
  const [batches, expected] = [{}, {}];
  for (const [key, array] of [...stored].sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (key === "about") continue;
    if (key.startsWith("expected.")) expected[key.slice("expected.".length)] = array;
    else (batches[key.split(".")[0]] ??= []).push(array);
  }
  const about = { format: 1, cpu: "wasm", platform, inputs: sent, batches: {}, files: [] };
  for (const [name, batch] of Object.entries(batches)) about.batches[name] = await sha256(batch.map((array) => array.data));
  const [arrays, lines] = [{}, []];
  let [compared, off] = [0, 0];
  for (const [number, { name, bytes }] of files.entries()) {
    const file = await open(name, bytes, sent.session_options);
    about.files.push({ name, sha256: await sha256([bytes]), runtime: file.runtime, version: file.version });
    for (const [key, batch] of Object.entries(batches)) {
      if (!file.takes(batch.map((array) => array.shape))) throw new Error(`${name}: takes no batch of ${batch[0].shape[0]}`);
      for (const [place, array] of (await file.run(batch)).entries()) {
        arrays[`${number}.${key}.${place}`] = array;
        const wanted = expected[`${key}.${place}`];
        if (wanted && place >= sent.plain) {
          compared += wanted.data.length;
          off += wanted.data.reduce((sum, value, i) => sum + (value !== array.data[i]), 0);
        }
      }
    }
    lines.push(`${name}: ${Object.keys(batches).length} batches in ${file.runtime} ${file.version}`);
  }
  if (compared) lines.push(`${off} of ${compared} codes differ from those expected of ${sent.expected}`);
  return { results: writeNpz({ about: { text: JSON.stringify(about) }, ...arrays }), compared, off, lines, sent };
}

async function sha256(views) {
  const whole = await new Blob(views).arrayBuffer();
  return [...new Uint8Array(await crypto.subtle.digest("SHA-256", whole))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
