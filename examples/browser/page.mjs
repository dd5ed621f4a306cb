// The page: digits drawn with mouse, finger or pen, classified by two files; and the codes of both, checked once.
import { runProbe } from "./probe.mjs";
import { open } from "./runtimes.mjs";

const FILES = ["int8.onnx", "int8.tflite"];
const REPEATS = 21, RUNS = 20;
const SIDE = 8, BOX = 6.5; // pixels of an input, and those that a digit fills of them
const LINE = 26; // of 256
const pad = document.getElementById("pad");
const seen = document.getElementById("seen").getContext("2d");
const status = document.getElementById("status");
const strokes = [];
const rows = [];
let preprocessing = { mean: [0], std: [1] };

/** Render the strokes as the 8 x 8 digits of scikit-learn are: the drawing in a box in the middle, gray by area. */
function rasterize() {
  const points = strokes.flat();
  if (!points.length) return new Float32Array(SIDE * SIDE);
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = (BOX / SIDE) * 256 / Math.max(right - left + LINE, bottom - top + LINE);
  const canvas = new OffscreenCanvas(256, 256);
  const drawn = canvas.getContext("2d", { willReadFrequently: true });
  drawn.translate(128, 128);
  drawn.scale(scale, scale);
  drawn.translate(-(left + right) / 2, -(top + bottom) / 2);
  for (const stroke of strokes) draw(drawn, stroke, LINE);
  const pixels = drawn.getImageData(0, 0, 256, 256).data;
  const gray = new Float32Array(SIDE * SIDE);
  const cell = 256 / SIDE;
  for (let y = 0; y < 256; y++)
    for (let x = 0; x < 256; x++) gray[Math.floor(y / cell) * SIDE + Math.floor(x / cell)] += pixels[(y * 256 + x) * 4 + 3] / 255;
  return gray.map((sum) => sum / (cell * cell));
}

function draw(context, stroke, width) {
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = "#fff";
  context.beginPath();
  stroke.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
  if (stroke.length === 1) context.lineTo(stroke[0][0] + 0.01, stroke[0][1]);
  context.stroke();
}

const normalize = (gray) => gray.map((value) => (value - preprocessing.mean[0]) / preprocessing.std[0]);
const inputOf = (gray, shape) => [{ dtype: "float32", shape, data: normalize(gray) }];

async function classify() {
  const context = pad.getContext("2d");
  context.clearRect(0, 0, 256, 256);
  for (const stroke of strokes) draw(context, stroke, LINE);
  const gray = rasterize();
  const image = seen.createImageData(SIDE, SIDE);
  gray.forEach((value, i) => image.data.set([value * 255, value * 255, value * 255, 255], i * 4));
  seen.putImageData(image, 0, 0);
  for (const row of rows) {
    const [scores] = await row.file.run(inputOf(gray, row.shape));
    const best = scores.data.indexOf(Math.max(...scores.data));
    row.cells.digit.textContent = strokes.length ? best : "";
  }
}

async function latency(row) {
  const times = [];
  for (let repeat = 0; repeat < REPEATS; repeat++) {
    const start = performance.now();
    for (let run = 0; run < RUNS; run++) await row.file.run(inputOf(new Float32Array(SIDE * SIDE), row.shape));
    times.push((performance.now() - start) / RUNS);
  }
  return times.sort((a, b) => a - b)[REPEATS >> 1];
}

async function fetched(name) {
  const response = await fetch(`files/${name}`);
  if (!response.ok) throw new Error(`files/${name} is missing: make browser writes it`);
  return response.arrayBuffer();
}

function addRow(name) {
  const line = document.getElementById("files").insertRow();
  const cells = {};
  for (const key of ["file", "runtime", "digit", "latency", "codes"]) {
    cells[key] = line.insertCell();
    cells[key].className = key;
  }
  cells.file.textContent = name;
  return cells;
}

async function start() {
  for (const name of FILES) {
    const kind = name.split(".")[1];
    const cells = addRow(name);
    const bytes = new Uint8Array(await fetched(name));
    const inputs = await fetched(`probe-${kind}.npz`);
    const probe = { name: `probe-${kind}.${kind}`, bytes: new Uint8Array(await fetched(`probe-${kind}.${kind}`)) };
    const checked = await runProbe(inputs, [probe], navigator.userAgent);
    if (checked.sent.preprocessing.mean) preprocessing = checked.sent.preprocessing;
    const same = checked.compared.toLocaleString("en");
    cells.codes.textContent = checked.off ? `no: ${checked.off} of ${same} differ` : `yes: 0 of ${same} differ`;
    const file = await open(name, bytes, checked.sent.session_options);
    const shape = kind === "tflite" ? [1, SIDE, SIDE, 1] : [1, 1, SIDE, SIDE];
    const row = { file, cells, shape: file.takes([[1, 1, SIDE, SIDE]]) ? [1, 1, SIDE, SIDE] : shape };
    cells.file.textContent = `${name}, ${(bytes.length / 1000).toFixed(1)} kB`;
    cells.runtime.textContent = `${file.runtime} ${file.version}`;
    cells.latency.textContent = `${(await latency(row)).toFixed(3)} ms`;
    rows.push(row);
  }
  status.textContent = "Ready.";
  await classify();
}

const place = (event) => {
  const box = pad.getBoundingClientRect();
  return [((event.clientX - box.left) * 256) / box.width, ((event.clientY - box.top) * 256) / box.height];
};
pad.addEventListener("pointerdown", (event) => {
  pad.setPointerCapture(event.pointerId);
  strokes.push([place(event)]);
  classify();
});
pad.addEventListener("pointermove", (event) => {
  if (!pad.hasPointerCapture(event.pointerId)) return;
  strokes.at(-1).push(place(event));
  classify();
});
document.getElementById("clear").addEventListener("click", () => {
  strokes.length = 0;
  classify();
});
start().catch((error) => {
  status.textContent = `This does not work: ${error.message}`;
});
