/**
 * @file Gaussian noise as a pure function of (seed, draw, position): Philox4x32-10 and Box-Muller, with the bits of
 * pidsampler/noise/philox.py. Each product and sum is rounded to float32, in the order given there.
 */

const { fround, imul, sqrt } = Math;
const [TO_UNIT, HALF, TO_EIGHTHS] = [2 ** -32, 2 ** -33, 2 ** -31];
const LN_2 = fround(-1.65259166e-7); // -2 ln 2 * 2^-23
const MINUS_2_LN = [
  -0.299724579, 0.306788713, -0.275270224, 0.328606695, -0.400579661, 0.500129998, -0.666655481, 0.999999464, -2,
].map(fround);
const SINE = [-3.63177714e-5, 0.002490649, -0.0807457417, 0.785398185].map(fround);
const COSINE = [3.49398124e-6, -0.000325868634, 0.0158542842, -0.308425128, 1].map(fround);

const floats = new Float32Array(2);
const bits = new Uint32Array(floats.buffer);

/**
 * Upper 32 bits of the product of two words.
 * @param {number} a
 * @param {number} b
 */
function high(a, b) {
  const [low, top, low2, top2] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = top * low2 + ((low * low2) >>> 16);
  return top * top2 + (middle >>> 16) + ((low * top2 + (middle & 0xffff)) >>> 16);
}

/**
 * Write the four words of a counter.
 * @param {Uint32Array} words (4,)
 * @param {number} q counter, from 0
 * @param {number} draw
 * @param {number} stream
 * @param {number} key0 lower half of the seed
 * @param {number} key1 upper half of the seed
 */
export function philox(words, q, draw, stream, key0, key1) {
  let [c0, c1, c2, c3] = [q >>> 0, Math.floor(q / 2 ** 32) >>> 0, draw >>> 0, stream >>> 0];
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = [high(0xd2511f53, c0), imul(0xd2511f53, c0)];
    const [high1, low1] = [high(0xcd9e8d57, c2), imul(0xcd9e8d57, c2)];
    c0 = (high1 ^ c1 ^ key0) >>> 0;
    c2 = (high0 ^ c3 ^ key1) >>> 0;
    c1 = low1 >>> 0;
    c3 = low0 >>> 0;
    key0 = (key0 + 0x9e3779b9) >>> 0;
    key1 = (key1 + 0xbb67ae85) >>> 0;
  }
  words[0] = c0;
  words[1] = c1;
  words[2] = c2;
  words[3] = c3;
}

/**
 * Horner's scheme in float32, from the highest power on.
 * @param {number[]} coefficients
 * @param {number} x
 */
function polynomial(coefficients, x) {
  let sum = coefficients[0];
  for (let i = 1; i < coefficients.length; i++) sum = fround(fround(sum * x) + coefficients[i]);
  return sum;
}

/**
 * sqrt(-2 ln u) with u = (r + 1/2) * 2^-32.
 * @param {number} r word
 */
function radius(r) {
  floats[0] = fround(fround(r) * TO_UNIT) + HALF;
  const exponent = (bits[0] - 0x3f2aaaab) & 0xff800000; // e * 2^23
  let f = fround(fround(fround(~r >>> 0) * -TO_UNIT) - HALF);
  if (exponent !== 0) {
    bits[0] -= exponent;
    f = fround(floats[0] - 1);
  }
  return fround(sqrt(fround(fround(exponent * LN_2) + fround(polynomial(MINUS_2_LN, f) * f))));
}

/**
 * Write two normals, radius times sine and cosine of 2 pi (r + 1/2) * 2^-32.
 * @param {Float32Array} out
 * @param {number} at
 * @param {number} length radius
 * @param {number} r word
 */
function turned(out, at, length, r) {
  const quarters = (r + 0x20000000) >>> 0; // in the upper two bits
  const t = fround(fround((r << 2) | 2) * TO_EIGHTHS);
  const t2 = fround(t * t);
  floats[0] = polynomial(SINE, t2) * t;
  floats[1] = polynomial(COSINE, t2);
  const odd = quarters & 0x40000000 ? 1 : 0;
  const [sine, cosine] = [bits[odd], bits[1 - odd]];
  bits[0] = sine ^ (quarters & 0x80000000);
  bits[1] = cosine ^ ((quarters + 0x40000000) & 0x80000000);
  out[at] = length * floats[0];
  out[at + 1] = length * floats[1];
}

/**
 * Write the noise of the flat positions start..start+out.length-1 of one image, counted over (channels, height, width).
 * @param {Float32Array} out
 * @param {bigint} seed 0 to 2^64-1
 * @param {number} draw 0 is the initial noise, k the k-th re-noise
 * @param {number} start a multiple of 4
 */
export function fill(out, seed, draw, start = 0) {
  const [key0, key1] = [Number(seed & 0xffffffffn), Number(seed >> 32n)];
  const words = new Uint32Array(4);
  const four = new Float32Array(4);
  for (let i = 0; i < out.length; i += 4) {
    philox(words, (start + i) / 4, draw, 0, key0, key1);
    turned(four, 0, radius(words[0]), words[1]);
    turned(four, 2, radius(words[2]), words[3]);
    if (i + 4 <= out.length) out.set(four, i);
    else out.set(four.subarray(0, out.length - i), i);
  }
}
