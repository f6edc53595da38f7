/** @file Pictures to tensors and back, with the roundings of pidsampler/image/pixels.py. */

/**
 * @typedef {{data: Uint8ClampedArray, width: number, height: number}} Picture
 * Pixels as RGBA, row by row; alpha is ignored.
 */

/**
 * Index of a pixel past the edge, read back in reverse.
 * @param {number} i
 * @param {number} length
 */
function reflected(i, length) {
  const period = Math.max(1, 2 * (length - 1));
  return Math.min(i % period, period - (i % period)) % length;
}

/**
 * Return a picture as (3, height, width) in -1..1, padded by reflection below and to the right.
 * @param {Picture} picture
 * @param {number} height
 * @param {number} width
 */
export function toTensor(picture, height, width) {
  const x = new Float32Array(3 * height * width);
  const step = Math.fround(2 / 255);
  for (let c = 0, at = 0; c < 3; c++) {
    for (let row = 0; row < height; row++) {
      const line = reflected(row, picture.height) * picture.width;
      for (let column = 0; column < width; column++) {
        const value = picture.data[4 * (line + reflected(column, picture.width)) + c];
        x[at++] = Math.fround(value * step) - 1;
      }
    }
  }
  return x;
}

/**
 * Return the picture in the top left of a tensor, clamped and rounded; only each `stride`-th pixel of it.
 * @param {Float32Array} x (3, rows, columns) in -1..1
 * @param {number} columns
 * @param {{width: number, height: number}} size
 * @param {number} stride
 * @returns {Picture}
 */
export function toPicture(x, columns, size, stride = 1) {
  const [width, height] = [Math.ceil(size.width / stride), Math.ceil(size.height / stride)];
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  const plane = x.length / 3;
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = 0; column < width; column++, at += 4) {
      const from = (row * columns + column) * stride;
      for (let c = 0; c < 3; c++) {
        data[at + c] = Math.fround(Math.fround(x[from + c * plane] * 127.5) + 127.5); // ties to even, as numpy.rint
      }
    }
  }
  return { data, width, height };
}
