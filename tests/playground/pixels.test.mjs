import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { toPicture, toTensor } from "../../docs/playground/pixels.js";

const { image, tensor, x, picture } = JSON.parse(readFileSync(process.env.ANSWERS, "utf8")).pictures;
const colors = (data) => [...data].filter((_, i) => i % 4 < 3);

test("a picture becomes the tensor of Python, padded by reflection", () => {
  const found = toTensor({ data: Uint8ClampedArray.from(image), width: 3, height: 5 }, 16, 8);
  assert.deepEqual(found, Float32Array.from(tensor));
});

test("a tensor becomes the picture of Python", () => {
  const found = toPicture(Float32Array.from(x), 8, { width: 6, height: 7 });
  assert.deepEqual(colors(found.data), picture);
  assert.deepEqual([found.width, found.height], [6, 7]);
});

test("a preview has each second pixel", () => {
  const found = toPicture(Float32Array.from(x), 8, { width: 6, height: 7 }, 2);
  assert.deepEqual([found.width, found.height], [3, 4]);
  const second = [...Array(4).keys()].flatMap((row) => [0, 1, 2].map((column) => 3 * (12 * row + 2 * column)));
  assert.deepEqual(
    colors(found.data),
    second.flatMap((at) => picture.slice(at, at + 3)),
  );
});
