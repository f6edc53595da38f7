import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { tableName } from "../../docs/playground/settings.js";
import { Run } from "../../docs/playground/table.js";

const { tables, catalogue } = JSON.parse(readFileSync(process.env.ANSWERS, "utf8"));

/** The flow of tests/playground/test_units.py. */
function flow(x, t, mean = 0.25, std = 0.5) {
  const [keep, spread] = [1 - t, (1 - t) * std * std];
  const gain = spread / (keep * spread + t * t);
  const [slope, offset] = [(1 - gain) / t, (mean - gain * (keep * mean)) / t].map(Math.fround);
  return x.map((value) => Math.fround(value * slope) - offset);
}

for (const { name, rows, x, x0 } of tables) {
  test(`${name}: the numbers of Python`, () => {
    const run = new Run(rows, x.length, 11n);
    for (const row of rows) {
      assert.equal(run.row, row);
      run.step(flow(run.x, run.at));
      if (row === rows[0]) assert.ok(run.x0.every((value, i) => value === x0[i]));
    }
    assert.ok(run.x.every((value, i) => value === x[i]));
    assert.ok(run.x.some((value) => value !== 0));
  });
}

test("x0 is clipped where a row says so, and the network is told `at`", () => {
  const run = new Run([{ t: 0.5, at: 0.25, p: 0, q: 1, clip: 0.5, b: 1 }], 4, 0n);
  assert.equal(run.at, 0.25);
  run.step(Float32Array.of(-2, -0.25, 0.25, 2));
  assert.deepEqual([...run.x], [-0.5, -0.25, 0.25, 0.5]);
});

test("the name of a table says what is chosen", () => {
  const choice = { scheduler: "flow-sde", list: "karras", steps: 3, eta: 0.5 };
  assert.equal(tableName(catalogue, "tiny", choice), "flow-sde(eta=0.5)@karras:3");
  assert.equal(tableName(catalogue, "tiny", { ...choice, scheduler: "heun" }), "heun@karras:3");
  assert.equal(tableName(catalogue, "tiny-teacher", { ...choice, scheduler: "learnt-6" }), "tiny-teacher/learnt-6");
});
