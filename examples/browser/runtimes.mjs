// Files opened in the two runtimes of browsers. An opened file is {runtime, version, takes(shapes), run(batch)}, where a
// batch is a list of {dtype, shape, data} and so is what comes back; one thread, as everything that is compared.

/** Open an ONNX file in onnxruntime-web, with the session options that its metadata names. */
export async function openOnnx(bytes, sessionOptions = {}) {
  const ort = await import("onnxruntime-web");
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const extra = {};
  for (const [key, value] of Object.entries(sessionOptions)) {
    const [group, ...names] = key.split(".");
    (extra[group] ??= {})[names.join(".")] = value;
  }
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], extra });
  return {
    runtime: "onnxruntime-web",
    version: ort.env.versions.web,
    takes: () => true,
    async run(batch) {
      const feeds = batch.map(({ dtype, shape, data }, i) => [session.inputNames[i], new ort.Tensor(dtype, data, shape)]);
      const found = await session.run(Object.fromEntries(feeds));
      return session.outputNames.map((name) => found[name]).map(({ type, dims, data }) => ({ dtype: type, shape: [...dims], data }));
    },
  };
}

let litert = null;

/** Open a .tflite file in LiteRT.js; it takes the batch size that the file was exported with (`--batch`) alone. */
export async function openTflite(bytes) {
  const core = await import("@litertjs/core");
  const folder = new URL("wasm/", import.meta.resolve("@litertjs/core").replace("dist/", "")).href;
  litert ??= core.loadLiteRt(folder);
  await litert;
  const model = await core.loadAndCompile(bytes, { accelerator: "wasm" });
  const [ins, outs] = [model.getInputDetails(), model.getOutputDetails()];
  return {
    runtime: "LiteRT.js",
    version: (await (await fetch(new URL("../package.json", folder))).json()).version,
    takes: (shapes) => shapes.every((shape, i) => shape.join() === [...ins[i].shape].join()),
    async run(batch) {
      const tensors = batch.map(({ shape, data }) => new core.Tensor(data, shape));
      const found = await model.run(tensors);
      const results = found.map((tensor, i) => ({ dtype: outs[i].dtype, shape: [...outs[i].shape], data: tensor.toTypedArray() }));
      for (const tensor of [...tensors, ...found]) tensor.delete();
      return results;
    },
  };
}

/** Open a file by its name. */
export function open(name, bytes, sessionOptions) {
  return name.endsWith(".tflite") ? openTflite(bytes) : openOnnx(bytes, sessionOptions);
}
