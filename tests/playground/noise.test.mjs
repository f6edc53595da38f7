import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fill, philox } from "../../docs/playground/noise.js";

const { noise } = JSON.parse(readFileSync(process.env.ANSWERS, "utf8"));

test("the words of Random123's known answers", () => {
  const words = new Uint32Array(4);
  philox(words, 0, 0, 0, 0, 0);
  assert.deepEqual([...words], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
});

for (const { seed, draw, start, words, normals } of noise) {
  test(`seed ${seed}, draw ${draw}, from ${start}: the bits of Python`, () => {
    const [found, key] = [new Uint32Array(4), BigInt(seed)];
    philox(found, start / 4, draw, 0, Number(key & 0xffffffffn), Number(key >> 32n));
    assert.deepEqual([...found], words);
    const out = new Float32Array(normals.length);
    fill(out, key, draw, start);
    assert.deepEqual(out, Float32Array.from(normals));
  });
}
