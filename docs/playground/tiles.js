/** @file Tiles: the network sees a part of the picture at a time; the places and weights of pidsampler/upscale/tiles.py. */

/**
 * @typedef {{size: number, starts: number[], weights: Float32Array[]}} Axis
 * One side of a picture, cut into tiles of one size; the weights of all tiles sum to one at every pixel.
 */

/**
 * Cut a side into as few tiles as the overlap allows, each as small as it can be.
 * @param {number} length pixels of the side
 * @param {number} most pixels of a tile
 * @param {number} overlap pixels that neighbours share at least, a multiple of unit
 * @param {number} unit number whose multiples tiles begin at
 * @returns {Axis}
 */
export function axis(length, most, overlap, unit) {
  if (most >= length) return { size: length, starts: [0], weights: [new Float32Array(length).fill(1)] };
  const gaps = Math.ceil((length - most) / (most - overlap));
  const size = Math.ceil((length + gaps * overlap) / ((gaps + 1) * unit)) * unit;
  const starts = [];
  for (let k = 0; k <= gaps; k++) starts.push(unit * Math.floor((k * (length - size)) / (unit * gaps)));
  return { size, starts, weights: weights(length, size, starts) };
}

/**
 * @param {number} length
 * @param {number} size
 * @param {number[]} starts
 */
function weights(length, size, starts) {
  const all = starts.map(() => new Float64Array(size).fill(1));
  for (let k = 1; k < starts.length; k++) {
    const shared = starts[k - 1] + size - starts[k];
    for (let i = 0; i < shared; i++) {
      all[k][i] *= rise(i, shared);
      all[k - 1][size - 1 - i] *= rise(i, shared);
    }
  }
  const total = new Float64Array(length);
  for (const [k, start] of starts.entries()) for (let i = 0; i < size; i++) total[start + i] += all[k][i];
  return all.map((weight, k) => Float32Array.from(weight, (w, i) => w / total[starts[k] + i]));
}

/**
 * 0 in the outer quarter of an overlap, then a raised cosine, 1 in the inner quarter.
 * @param {number} i
 * @param {number} overlap
 */
function rise(i, overlap) {
  const margin = Math.floor(overlap / 4);
  const ramp = overlap - 2 * margin;
  if (i < margin) return 0;
  return i >= margin + ramp ? 1 : Math.sin((0.5 * Math.PI * (i - margin + 0.5)) / ramp) ** 2;
}

/**
 * A part of planes that lie one behind the other, as an array of its own.
 * @param {Float32Array} planes (count, height, width)
 * @param {number} height
 * @param {number} width
 * @param {{top: number, left: number, height: number, width: number}} tile
 */
export function cut(planes, height, width, tile) {
  const count = planes.length / (height * width);
  const part = new Float32Array(count * tile.height * tile.width);
  for (let line = 0; line < count * tile.height; line++) {
    const y = tile.top + (line % tile.height);
    const from = (Math.floor(line / tile.height) * height + y) * width + tile.left;
    part.set(planes.subarray(from, from + tile.width), line * tile.width);
  }
  return part;
}

/**
 * Add a tile, times its weights, to the whole.
 * @param {Float32Array} part (count, rows.length, columns.length)
 * @param {Float32Array} whole (count, height, width)
 * @param {number} height
 * @param {number} width
 * @param {{top: number, left: number, rows: Float32Array, columns: Float32Array}} place
 */
export function blend(part, whole, height, width, { top, left, rows, columns }) {
  const lines = part.length / columns.length;
  for (let line = 0; line < lines; line++) {
    const y = line % rows.length;
    const to = (Math.floor(line / rows.length) * height + top + y) * width + left;
    const from = line * columns.length;
    for (let i = 0; i < columns.length; i++) {
      whole[to + i] += Math.fround(part[from + i] * Math.fround(rows[y] * columns[i]));
    }
  }
}
