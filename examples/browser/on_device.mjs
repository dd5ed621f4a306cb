// node on_device.mjs probe.npz results.npz probe.onnx [int8.onnx]: run files in Node, as probe.py does in Python.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { runProbe } from "./probe.mjs";

const [inputs, results, ...paths] = process.argv.slice(2);
const stored = readFileSync(inputs);
const files = paths.map((path) => ({ name: basename(path), bytes: new Uint8Array(readFileSync(path)) }));
const buffer = stored.buffer.slice(stored.byteOffset, stored.byteOffset + stored.byteLength);
const found = await runProbe(buffer, files, `Node ${process.version}, wasm`);
writeFileSync(results, found.results);
console.log(found.lines.join("\n"));
process.exitCode = found.off ? 1 : 0;
