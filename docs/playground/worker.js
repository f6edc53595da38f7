/** @file The thread that computes, so that the page never waits. It does one run at a time: a new one ends the old one. */

import { Model, threads } from "./model.js";
import { toPicture, toTensor } from "./pixels.js";
import { Run } from "./table.js";

/**
 * @typedef {import("./pixels.js").Picture} Picture
 * @typedef {{name: string, facts: import("./model.js").Facts, tile: {size: number, overlap: number}}} Chosen
 * @typedef {{kind: "load", model: Chosen} | {kind: "cancel"}
 *   | {kind: "run", id: number, model: Chosen, picture: Picture, seed: bigint, tables: import("./table.js").Row[][]}} Order
 * @typedef {{kind: "step", id: number, table: number, row: number, picture: Picture}
 *   | {kind: "progress", id: number, share: number}
 *   | {kind: "done", id: number, pictures: Picture[], seconds: number[], threads: number}
 *   | {kind: "failed", id: number, message: string}} Report
 */

const PREVIEW = 512; // pixels a side of a preview at most
class Ended extends Error {}

/** @type {Map<string, Promise<Model>>} */
const models = new Map();
let current = 0; // number of the run that is wanted
/** @type {Promise<void>} */
let last = Promise.resolve();

/** @param {Chosen} chosen */
function load({ name, facts, tile }) {
  const model = models.get(name) ?? Model.load(name, facts, tile);
  models.set(name, model);
  model.catch(() => models.delete(name));
  return model;
}

/** @param {Report} report */
function tell(report) {
  postMessage(report);
}

/** Let waiting messages in, a cancellation among them. */
const pause = () => new Promise((resolve) => setTimeout(resolve));

/** @param {Order & {kind: "run"}} order */
async function run({ id, model: chosen, picture, seed, tables }) {
  const calls = tables.reduce((sum, rows) => sum + rows.length, 0);
  let before = 0;
  /** @param {number} share of a call */
  const onTile = async (share) => {
    await pause();
    if (id !== current) throw new Ended();
    tell({ kind: "progress", id, share: (before + share) / calls });
  };
  try {
    await onTile(0);
    const model = await load(chosen);
    const { scale, vae_factor: factor } = model.facts;
    const [height, width] = [picture.height, picture.width].map((n) => Math.ceil(n / factor) * factor);
    const size = { width: picture.width * scale, height: picture.height * scale };
    const stride = Math.ceil(Math.max(size.width, size.height) / PREVIEW);
    const latent = await model.encode(toTensor(picture, height, width), height, width);
    const pictures = [];
    const seconds = [];
    for (const [table, rows] of tables.entries()) {
      const start = performance.now();
      const state = new Run(rows, 3 * height * width * scale ** 2, seed);
      for (const row of rows.keys()) {
        state.step(await model.predict(state.x, state.at, latent, onTile));
        tell({ kind: "step", id, table, row, picture: toPicture(state.x0, width * scale, size, stride) });
        before += 1;
      }
      pictures.push(toPicture(state.x, width * scale, size));
      seconds.push((performance.now() - start) / 1000);
    }
    tell({ kind: "done", id, pictures, seconds, threads: threads() });
  } catch (error) {
    if (error instanceof Ended) return;
    tell({ kind: "failed", id, message: error instanceof Error ? error.message : String(error) });
  }
}

/** @param {MessageEvent<Order>} event */
self.onmessage = ({ data }) => {
  if (data.kind === "load")
    load(data.model).catch(() => {}); // a run tells why
  else {
    current = data.kind === "run" ? data.id : 0;
    if (data.kind === "run") last = last.then(() => run(data));
  }
};
