/** @file A model's two graphs in ONNX Runtime: the encoder, and the network, whose output is made in tiles. */

import * as ort from "./ort/ort.wasm.min.mjs";
import { axis, blend, cut } from "./tiles.js";

/**
 * @typedef {{scale: number, vae_factor: number, timescale: number, tables: string[], description: string}} Facts
 * @typedef {{height: number, width: number, values: Float32Array, channels: number}} Latent
 */

/** A loaded model. */
export class Model {
  /**
   * @param {Facts} facts
   * @param {ort.InferenceSession} encoder
   * @param {ort.InferenceSession} network
   * @param {{size: number, overlap: number}} tile
   */
  constructor(facts, encoder, network, tile) {
    this.facts = facts;
    this.encoder = encoder;
    this.network = network;
    this.tile = tile;
  }

  /**
   * Load a model of the folder `models`.
   * @param {string} name
   * @param {Facts} facts
   * @param {{size: number, overlap: number}} tile pixels of the result
   */
  static async load(name, facts, tile) {
    ort.env.wasm.wasmPaths = new URL("ort/", import.meta.url).href;
    ort.env.wasm.numThreads = threads();
    const [encoder, network] = ["vae_encoder", "pid_upscaler"].map(async (graph) => {
      const response = await fetch(new URL(`models/${name}/${graph}.onnx`, import.meta.url));
      if (!response.ok) throw new Error(`The model ${name} could not be fetched: ${response.status}.`);
      return ort.InferenceSession.create(new Uint8Array(await response.arrayBuffer()), {
        executionProviders: ["wasm"],
      });
    });
    return new Model(facts, await encoder, await network, tile);
  }

  /**
   * Return the latent of a picture.
   * @param {Float32Array} image (3, height, width), sides multiples of the encoder's factor
   * @param {number} height
   * @param {number} width
   * @returns {Promise<Latent>}
   */
  async encode(image, height, width) {
    const { latent } = await this.encoder.run({ image: new ort.Tensor("float32", image, [1, 3, height, width]) });
    const [, channels, rows, columns] = latent.dims;
    return { values: /** @type {Float32Array} */ (latent.data), channels, height: rows, width: columns };
  }

  /**
   * Return the network's output for x.
   * @param {Float32Array} x (3, H, W), H and W those of the latent times the scale and the encoder's factor
   * @param {number} t time, 0 to 1
   * @param {Latent} latent
   * @param {(share: number) => Promise<void>} onTile called after each tile; what it throws ends the run
   */
  async predict(x, t, latent, onTile) {
    const { scale, vae_factor, timescale } = this.facts;
    const unit = scale * vae_factor;
    const [height, width] = [latent.height * unit, latent.width * unit];
    const rows = axis(height, this.tile.size, this.tile.overlap, unit);
    const columns = axis(width, this.tile.size, this.tile.overlap, unit);
    const count = rows.starts.length * columns.starts.length;
    const whole = new Float32Array(count > 1 ? x.length : 0);
    for (let k = 0; k < count; k++) {
      const [row, column] = [Math.floor(k / columns.starts.length), k % columns.starts.length];
      const tile = { top: rows.starts[row], left: columns.starts[column], height: rows.size, width: columns.size };
      const [top, left, h, w] = [tile.top, tile.left, tile.height, tile.width].map((n) => n / unit);
      const part = cut(latent.values, latent.height, latent.width, { top, left, height: h, width: w });
      const { v_pred } = await this.network.run({
        x: new ort.Tensor("float32", cut(x, height, width, tile), [1, 3, tile.height, tile.width]),
        t: new ort.Tensor("float32", [t * timescale], [1]),
        lq_latent: new ort.Tensor("float32", part, [1, latent.channels, h, w]),
        degrade_sigma: new ort.Tensor("float32", [0], [1]),
      });
      const output = /** @type {Float32Array} */ (v_pred.data);
      await onTile((k + 1) / count);
      if (count === 1) return output;
      blend(output, whole, height, width, { ...tile, rows: rows.weights[row], columns: columns.weights[column] });
    }
    return whole;
  }
}

/** How many threads may compute: several only where the page is isolated from other origins. */
export function threads() {
  return globalThis.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
}
