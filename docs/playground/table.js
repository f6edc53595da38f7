/**
 * @file Runs a table, see docs/tables.md: one row for each call of the network. It knows no scheduler. Each product and
 * sum is rounded to float32 as in pidsampler/backends/numpy.py, so the same outputs give the same bits.
 */

import { fill } from "./noise.js";

/**
 * @typedef {{a?: number, b?: number, h?: [number, number][], noise?: [number, number][]}} Combination
 * Weights of x, x0, saved tensors and noise draws; 0 where left out.
 * @typedef {Combination & {t: number, at?: number, p?: number, q?: number, clip?: number,
 *   saves?: ({slot: number} & Combination)[]}} Row
 * A row without what is a column's default.
 */

const CHUNK = 1 << 15; // elements at a time, a multiple of 4

/** A state on its way through the rows of a table. */
export class Run {
  /**
   * @param {Row[]} rows
   * @param {number} size elements of the state
   * @param {bigint} seed
   */
  constructor(rows, size, seed) {
    this.rows = rows;
    this.seed = seed;
    this.index = 0;
    this.x = new Float32Array(size);
    this.x0 = new Float32Array(size); // of the row that was done last
    /** @type {Float32Array[]} */
    this.saved = [];
    fill(this.x, seed, 0);
  }

  /** The row to do next. */
  get row() {
    return this.rows[this.index];
  }

  /** The time that the network is told for that row, 0 to 1. */
  get at() {
    return this.row.at ?? this.row.t;
  }

  /**
   * Do the row.
   * @param {Float32Array} m the network's output at (x, at)
   */
  step(m) {
    const row = this.row;
    const saves = row.saves ?? [];
    for (const { slot } of saves) this.saved[slot] ??= new Float32Array(this.x.length);
    const targets = [this.x, ...saves.map(({ slot }) => this.saved[slot])];
    const combinations = [row, ...saves];
    const results = targets.map(() => new Float32Array(CHUNK));
    for (let start = 0; start < this.x.length; start += CHUNK) {
      const stop = Math.min(start + CHUNK, this.x.length);
      /** @param {Float32Array} array */
      const part = (array) => array.subarray(start, stop);
      const [x, x0] = [part(this.x), part(this.x0)];
      predict(row, x, part(m), x0);
      for (const [i, { a = 0, b = 0, h = [], noise = [] }] of combinations.entries()) {
        const result = results[i].subarray(0, stop - start).fill(0);
        add(result, a, x);
        add(result, b, x0);
        for (const [slot, weight] of h) add(result, weight, part(this.saved[slot]));
        for (const [draw, weight] of noise) {
          const drawn = new Float32Array(stop - start);
          fill(drawn, this.seed, draw, start);
          add(result, weight, drawn);
        }
      }
      for (const [i, target] of targets.entries()) part(target).set(results[i].subarray(0, stop - start));
    }
    this.index += 1;
  }
}

/**
 * x0 = clip(p*x + q*m).
 * @param {Row} row
 * @param {Float32Array} x
 * @param {Float32Array} m
 * @param {Float32Array} x0
 */
function predict({ t, p = 1, q = -t, clip = Infinity }, x, m, x0) {
  x0.fill(0);
  add(x0, q, m);
  add(x0, p, x);
  if (clip !== Infinity) for (let i = 0; i < x0.length; i++) x0[i] = Math.min(Math.max(x0[i], -clip), clip);
}

/**
 * sum += weight * array.
 * @param {Float32Array} sum
 * @param {number} weight
 * @param {Float32Array} array
 */
function add(sum, weight, array) {
  if (weight === 0) return;
  const w = Math.fround(weight);
  for (let i = 0; i < sum.length; i++) sum[i] += Math.fround(w * array[i]);
}
