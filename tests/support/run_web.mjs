// Runs a graph in onnxruntime-web: node run_web.mjs PACKAGE GRAPH FEEDS.json RESULT
// FEEDS is {name: [type, shape, base64 of the values]}, and RESULT gets the values of the output `result`.

import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const [, , folder, graph, given, target] = process.argv;
const ort = createRequire(import.meta.url)(folder);
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(readFileSync(graph), { executionProviders: ["wasm"] });
const arrays = { float32: Float32Array, uint8: Uint8Array };
const feeds = {};
for (const [name, [type, shape, text]] of Object.entries(JSON.parse(readFileSync(given, "utf8")))) {
  const bytes = new Uint8Array(Buffer.from(text, "base64"));
  feeds[name] = new ort.Tensor(type, new arrays[type](bytes.buffer), shape);
}
const { result } = await session.run(feeds);
writeFileSync(target, new Uint8Array(result.data.buffer, result.data.byteOffset, result.data.byteLength));
