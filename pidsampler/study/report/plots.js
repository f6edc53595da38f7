// Quality against cost, and the effect of each axis, of the measure that is chosen for both.

function measureSelects() {
  for (const select of document.querySelectorAll("select.measure")) {
    options(select, quality.map((measure) => [measure.name, withUnit(measure)]));
    select.value = page.measure.name;
    select.addEventListener("change", () => {
      page.measure = quality.find((measure) => measure.name === select.value);
      page.dispatchEvent(new Event("measure"));
    });
    page.addEventListener("measure", () => { select.value = page.measure.name; });
  }
}

/** The points that no other beats in both, by rising cost. */
function front(points, measure) {
  const worth = ({ mean }) => ({ higher: mean, lower: -mean, zero: -Math.abs(mean) })[measure.better] ?? NaN;
  const kept = [];
  for (const point of [...points].sort((a, b) => a.cost - b.cost || worth(b) - worth(a))) {
    if (worth(point) > (kept.length ? worth(kept.at(-1)) : -Infinity)) kept.push(point);
  }
  return kept;
}

/** Say which pixels points stand at: those of equal cost beside one another, in the order of the first axis. */
function setApart(points, plot) {
  for (const equal of Map.groupBy(points, (point) => point.cost).values()) {
    const ranks = [...new Set(equal.map(({ cell }) => rank(axis0, cell)))].sort((a, b) => a - b);
    const gap = Math.min(3, 20 / ranks.length);
    for (const point of equal) {
      point.px = plot.x.at(point.cost) + gap * (ranks.indexOf(rank(axis0, point.cell)) - (ranks.length - 1) / 2);
      point.py = plot.y.at(point.mean);
    }
  }
}

/** Write the labels of `some` points where they cover no mark and no other label; one without a place is left out. */
function writeLabels(plot, points, some) {
  const taken = points.flatMap(({ px, py, low, high }) => [
    [px - 6, py - 6, px + 6, py + 6],
    ...(finite(low) ? [[px - 2, plot.y.at(high), px + 2, plot.y.at(low)]] : []),
  ]);
  const free = ([l, t, r, b]) => l > plot.left && r < plot.right && t > plot.top - 14 && b < plot.base &&
    taken.every(([l2, t2, r2, b2]) => r < l2 || l > r2 || b < t2 || t > b2);
  for (const { cell, px, py } of some) {
    const width = textWidth(cell.label);
    const [left, middle, right] = [-width - 9, -width / 2, 9];
    const places = [[right, -20], [left, -20], [right, 5], [left, 5], [middle, -26], [middle, 12], [right + 9, -7],
      [left - 9, -7], [right, -34], [left, -34], [right, 20], [left, 20], [middle, -42], [middle, 28]];
    const box = places.map(([x, y]) => [px + x, py + y, px + x + width, py + y + 14]).find(free);
    if (!box) continue;
    taken.push(box);
    plot.marks.before(draw("text", { class: "name", x: box[0], y: box[1] + 11 }, cell.label));
  }
}

function pareto() {
  const costs = ["calls", "seconds"].flatMap((name) => measured.filter((measure) => measure.name === name));
  if (!quality.length || !costs.length) return drop("pareto");
  const titles = { calls: "model calls", seconds: "seconds per run" };
  const host = $("#pareto .plot");
  let cost = costs[0];
  let marks = [];

  function markOf(point, plot) {
    const { cell, px, py, mean } = point;
    const { measure } = page;
    const act = () => {
      if (viewable(cell.id)) choose(cell.id);
      showRow(cell.id);
    };
    const mark = draw("g", {
      class: "mark", role: "button", "aria-label": `${cell.label}: ${number(mean, measure.digits)}`,
      style: { color: colour(rank(axis0, cell)) },
      click: act,
      keydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        act();
      },
    }, draw("path", { class: "bar", d: bar(px, plot.y, point) }), spot(px, py, rank(axis1, cell)));
    mark.cell = cell;
    return tipped(mark, () => [cell.label, [...account(cell, measure), account(cell, cost)[0]]]);
  }

  function render() {
    const { measure } = page;
    const { digits } = measure;
    const points = data.cells
      .map((cell) => ({ ...cell.results[measure.name], cost: cell.results[cost.name]?.mean, cell }))
      .filter((point) => finite(point.mean) && point.cost > 0).sort((a, b) => a.cost - b.cost);
    if (!points.length) return host.replaceChildren(make("p", { class: "note" }, "No cell has both numbers."));
    const best = front(points, measure);
    const values = extent(points);
    const distinct = [...new Set(points.map((point) => point.cost))];
    const fixed = cost.name === "calls" && distinct.length < 16 ? distinct : null;
    const told = best.map((point) => `${point.cell.label}, ${number(point.mean, digits)} at ${number(point.cost)}`);
    const plot = frame(host, {
      inner: Math.min(Math.max(host.clientWidth * 0.45, 260), 540),
      x: { values: distinct, log: true, fixed, title: `← better  ${titles[cost.name]}` },
      y: { values, log: wide(values), title: axisTitle(measure) },
      summary: `${withUnit(measure)} against ${titles[cost.name]} of ${points.length} cells. ` +
        `On the front: ${told.join("; ")}`,
    });
    setApart(points, plot);
    if (directed(measure)) {
      const steps = best.map(({ px, py }, index) => (index ? `H${px}V${py}` : `M${px},${py}`)).join("");
      plot.back.append(draw("path", { class: "front", d: `${steps}H${plot.right}` }));
    }
    marks = points.map((point) => markOf(point, plot));
    plot.marks.append(...marks);
    roving(plot.marks, marks);
    writeLabels(plot, points, best);
    showChosen();
  }

  function showChosen() {
    for (const mark of marks) {
      mark.classList.toggle("chosen", page.chosen.has(mark.cell.id));
      mark.setAttribute("aria-pressed", page.chosen.has(mark.cell.id));
    }
  }

  segments($("#cost"), "cost", costs.map(({ name }) => [name, titles[name]]), cost.name, (name) => {
    cost = costs.find((measure) => measure.name === name);
    render();
  });
  legend($("#pareto .legend"), (test) => marks.forEach((mark) => mark.classList.toggle("dim", !test(mark.cell))));
  page.addEventListener("measure", render);
  page.addEventListener("chosen", showChosen);
  whenSized(host, render);
}

/** Names of colours and shapes; pointing at one brings its cells out. */
function legend(host, highlight) {
  for (const axis of [axis0, axis1].filter((axis) => axis?.values.length > 1)) {
    const items = axis.values.map((value, index) => {
      const on = () => highlight((cell) => cell.settings[axis.name] === value);
      const off = () => highlight(() => true);
      const sign = axis === axis0 ? swatch(index) : swatch(null, index);
      return make("button", { type: "button", pointerenter: on, focus: on, pointerleave: off, blur: off }, sign, value);
    });
    host.append(make("div", { role: "group", "aria-label": axis.name }, make("span", {}, axis.name), items));
  }
}

function effects() {
  const known = data.effects.filter((effect) => quality.some((measure) => measure.name === effect.measure));
  const axes = data.axes.filter((axis) => known.some((effect) => effect.axis === axis.name));
  if (!axes.length) return drop("effects");
  const parts = axes.map((axis) => {
    const host = make("div", { class: "plot" });
    const style = { flexGrow: 2 + axis.values.length };
    $("#effects .multiples").append(make("figure", { style }, make("figcaption", {}, axis.name), host));
    return { axis, host };
  });

  function render({ axis, host }) {
    const { measure } = page;
    const { digits } = measure;
    const all = known.filter((effect) => effect.measure === measure.name);
    const values = extent(all.flatMap((effect) => effect.points));
    const points = all.filter((effect) => effect.axis === axis.name).flatMap((effect) => effect.points)
      .filter((point) => finite(point.mean));
    if (!points.length) return host.replaceChildren(make("p", { class: "note" }, "–"));
    const told = points.map((point) => `${point.value} ${number(point.mean, digits)}`);
    const plot = frame(host, {
      inner: 220,
      x: { names: points.map((point) => point.value), title: "" },
      y: { values, log: wide(values), title: axisTitle(measure) },
      summary: `${withUnit(measure)} by ${axis.name}: ${told.join(", ")}`,
    });
    const at = points.map((point, index) => [plot.x.at(index), plot.y.at(point.mean)]);
    if (points.every(({ value }) => numeric(value))) plot.back.append(draw("path", { class: "thread", d: trace(at) }));
    const marks = points.map((point, index) => {
      const [x, y] = at[index];
      const which = axis.values.indexOf(point.value);
      const ring = data.preset[axis.name] === point.value ? "ring" : "hit";
      const mark = draw("g", {
        class: "mark", role: "img", "aria-label": `${point.value}: ${number(point.mean, digits)}`,
        style: axis === axis0 ? { color: colour(which) } : {},
      }, draw("path", { class: "bar", d: bar(x, plot.y, point) }), spot(x, y, axis === axis1 ? which : 0, ring));
      const lines = [[withUnit(measure), number(point.mean, digits)], ["interval", between(point, digits)]];
      return tipped(mark, () => [`${axis.name} ${point.value}`, lines]);
    });
    plot.marks.append(...marks);
    roving(plot.marks, marks);
  }

  for (const part of parts) whenSized(part.host, () => render(part));
  page.addEventListener("measure", () => parts.forEach(render));
}

pareto();
effects();
if (quality.length) measureSelects();
