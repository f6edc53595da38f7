import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { axis, blend, cut } from "../../docs/playground/tiles.js";

const { tiles } = JSON.parse(readFileSync(process.env.ANSWERS, "utf8"));

for (const { length, size, starts, weights } of tiles) {
  test(`a side of ${length}: the places and weights of Python`, () => {
    const found = axis(length, 512, 128, 32);
    assert.deepEqual([found.size, found.starts], [size, starts]);
    for (const [k, weight] of weights.entries()) {
      assert.ok(weight.every((w, i) => Math.abs(w - found.weights[k][i]) < 1e-7));
    }
  });
}

test("tiles that are cut out and blended are the picture", () => {
  const [height, width] = [640, 576];
  const planes = Float32Array.from({ length: 2 * height * width }, (_, i) => Math.sin(i));
  const [rows, columns] = [axis(height, 512, 128, 32), axis(width, 512, 128, 32)];
  const whole = new Float32Array(planes.length);
  for (const [r, top] of rows.starts.entries()) {
    for (const [c, left] of columns.starts.entries()) {
      const part = cut(planes, height, width, { top, left, height: rows.size, width: columns.size });
      blend(part, whole, height, width, { top, left, rows: rows.weights[r], columns: columns.weights[c] });
    }
  }
  assert.ok(rows.starts.length * columns.starts.length > 1);
  assert.ok(whole.every((value, i) => Math.abs(value - planes[i]) < 1e-6));
});
