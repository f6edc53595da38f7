// Plots of many lines: convergence, and the schedules. A table names the lines, brings them out and takes them away.

const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
const stroke = ({ dash }, d) =>
  draw("path", { class: "thin", d, "stroke-dasharray": DASHES[dash % DASHES.length] || null });

/** Draw lines ({ label, colour, dash, shape, points: [{ at, mean, low, high }], about(point) }) in a new frame. */
function drawLines(host, axes, lines, highlight) {
  const plot = frame(host, axes);
  const marks = [];
  plot.lines = lines.map((line, index) => {
    const points = line.points
      .filter(({ at, mean }) => finite(mean) && (!axes.x.log || at > 0) && (!axes.y.log || mean > 0))
      .map((point) => ({ ...point, px: plot.x.at(point.at), py: plot.y.at(point.mean) }));
    const path = trace(points.map(({ px, py }) => [px, py]));
    const bars = points.map((point) => bar(point.px, plot.y, point)).join("");
    // Where they would touch one another, markers show only when they are pointed at.
    const dense = points.length > 1 && (points.at(-1).px - points[0].px) / (points.length - 1) < 11;
    const [on, off] = [() => highlight(index), () => highlight(-1)];
    const ofLine = points.map((point) => {
      const label = `${line.label}: ${line.about(point)[0].join(" ")}`;
      const name = dense ? "mark dense" : "mark";
      const attributes = { class: name, role: "img", "aria-label": label, focus: on, blur: off };
      const mark = draw("g", attributes, spot(point.px, point.py, line.shape));
      return tipped(mark, () => [line.label, line.about(point)]);
    });
    marks.push(...ofLine);
    return draw("g", { class: "line", style: { color: line.colour }, pointerenter: on, pointerleave: off },
      draw("path", { class: "wide", d: path }), stroke(line, path), draw("path", { class: "bar", d: bars }), ofLine);
  });
  plot.marks.append(...plot.lines);
  roving(plot.marks, marks);
  return plot;
}

/**
 * Plots that share lines, and their table. Returns what draws the plots again.
 * drawers: functions (highlight) -> plot, one per host, where highlight(index) brings a line out, and -1 none.
 * columns: [title, text(line)], after the name's.
 */
function lineFigure(hosts, drawers, legend, lines, columns) {
  const plots = [];
  const off = new Set(); // indices of lines that are taken away
  const show = (bright) => {
    rows.forEach((row, index) => row.classList.toggle("bright", index === bright));
    for (const plot of plots) {
      plot?.lines.forEach((group, index) => {
        group.classList.toggle("off", off.has(index));
        group.classList.toggle("dim", bright >= 0 && bright !== index);
      });
    }
  };
  const rows = lines.map((line, index) => {
    const [on, out] = [() => show(index), () => show(-1)];
    const size = { class: "key", viewBox: "-16 -7 32 14", "aria-hidden": "true", style: { color: line.colour } };
    const key = draw("svg", size, stroke(line, "M-16,0H16"), marker(line.shape));
    const attributes = { type: "button", "aria-pressed": "true", focus: on, blur: out };
    const button = make("button", attributes, key, make("span", {}, line.label));
    button.addEventListener("click", () => {
      off[off.has(index) ? "delete" : "add"](index);
      button.setAttribute("aria-pressed", !off.has(index));
      show(index);
    });
    const cells = columns.map(([, text]) => make("td", { class: "number" }, text(line)));
    return make("tr", { pointerenter: on, pointerleave: out }, make("td", {}, button), cells);
  });
  const titles = columns.map(([title]) => make("th", { class: "number" }, title));
  legend.append(make("table", {}, make("thead", {}, make("tr", {}, make("th"), titles)), make("tbody", {}, rows)));
  const renders = drawers.map((drawer, index) => () => {
    plots[index] = drawer(show);
    show(-1);
  });
  hosts.forEach((host, index) => whenSized(host, renders[index]));
  return () => renders.forEach((render) => render());
}

function convergence() {
  const parts = data.convergence.filter((part) => part.series.some((line) => line.mean.some((mean) => mean > 0)));
  if (!parts.length) return drop("convergence");
  for (const part of parts) {
    const measure = data.measures.find(({ name }) => name === part.measure);
    const lines = part.series.map((line, index) => {
      const known = axis0 ? axis0.values.indexOf(line.label) : -1;
      const which = known < 0 ? index : known;
      const { calls, mean, low, high } = line;
      const points = line.steps.map((at, i) => ({ at, calls: calls[i], mean: mean[i], low: low[i], high: high[i] }));
      const about = (point) => [[`${point.at} steps`, number(point.mean, measure.digits)],
        ["interval", between(point, measure.digits)], ["model calls", String(point.calls)]];
      return { ...line, points, about, colour: colour(which), dash: Math.floor(which / COLOURS), shape: which };
    });
    const points = lines.flatMap((line) => line.points).filter((point) => point.mean > 0);
    const steps = [...new Set(points.map((point) => point.at))].sort((a, b) => a - b);
    const order = (line) => (line.order ? `${number(line.order.fit)} (${between(line.order, 2)})` : "–");
    const expected = (line) => String(line.expected ?? "–");
    const told = lines.map((line) => `${line.label} ${order(line)}`).join("; ");
    const host = make("div", { class: "plot" });
    const table = make("div", { class: "lines" });
    $("#convergence .parts").append(make("div", { class: "beside" }, host, table));
    const drawer = (highlight) => drawLines(host, {
      inner: Math.min(Math.max(host.clientWidth * 0.62, 260), 540),
      x: { values: steps, log: true, title: "steps", fixed: steps.length < 16 ? steps : null },
      y: { values: extent(points).filter((value) => value > 0), log: true, title: axisTitle(measure) },
      summary: `${part.measure} against steps. Fitted orders: ${told}`,
    }, lines, highlight);
    lineFigure([host], [drawer], table, lines, [["fitted order", order], ["expected", expected]]);
  }
}

/** The distinct lists of times as { times, cells, label, colour, dash, shape }, in the order of the cells. */
function lists() {
  const groups = Map.groupBy(data.cells.filter((cell) => cell.times?.length), (cell) => JSON.stringify(cell.times));
  const all = [...groups.values()];
  const axes = data.axes.filter((axis) => axis.values.length > 1);
  const values = (axis, cells) => [...new Set(cells.map((cell) => cell.settings[axis.name]))];
  // The colour tells the first axis of which each list has one value; lists of one colour differ in their dashes.
  const telling = axes.find((axis) => all.every((cells) => values(axis, cells).length === 1));
  const alike = new Map(); // colour -> how many lists have it so far
  return all.map((cells, index) => {
    const which = telling ? rank(telling, cells[0]) : index % COLOURS;
    const dash = alike.get(which) ?? 0;
    alike.set(which, dash + 1);
    const words = axes.filter((axis) => values(axis, cells).length < axis.values.length).map((axis) => {
      const some = values(axis, cells);
      return `${axis.name} ${some.slice(0, 2).join(", ")}${some.length > 2 ? ` + ${some.length - 2}` : ""}`;
    });
    const label = words.join(" · ") || (cells.length === 1 ? cells[0].label : "all cells");
    return { times: cells[0].times, cells, label, colour: colour(which), dash, shape: dash };
  });
}

function schedules() {
  const all = lists();
  if (!all.length) return drop("schedules");
  const logSnr = (t) => (t > 0 && t < 1 ? Math.log((1 - t) / t) : null);
  const last = (line) => line.times.length - 1;
  let share = false; // whether x is the share of a list's steps, not their number

  const drawer = (host, title, value) => (highlight) => {
    const at = (line, index) => (share ? index / Math.max(last(line), 1) : index);
    const lines = all.map((line) => ({ ...line,
      points: line.times.map((t, index) => ({ index, t, at: at(line, index), mean: value(t) })),
      about: ({ index, t }) => [
        [`step ${index} of ${last(line)}`, `t = ${number(t, 4)}`], ["half log-SNR", number(logSnr(t))],
      ] }));
    const points = lines.flatMap((line) => line.points);
    const means = points.map((point) => point.mean).filter(finite);
    if (!means.length) return host.replaceChildren();
    return drawLines(host, {
      inner: 260,
      x: { values: points.map((point) => point.at), title: share ? "share of the steps" : "step" },
      y: { values: means, title },
      summary: `${title} against the step, of ${all.length} lists: ${all.map((line) => line.label).join("; ")}`,
    }, lines, highlight);
  };
  const [left, right] = document.querySelectorAll("#schedules .plot");
  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
  const size = (line) => `${plural(last(line), "step")}, ${plural(line.cells.length, "cell")}`;
  const drawers = [drawer(left, "t", (t) => t), drawer(right, "half log-SNR", logSnr)];
  const redraw = lineFigure([left, right], drawers, $("#schedules .lines"), all, [["", size]]);
  segments($("#along"), "along", [["steps", "by step"], ["share", "by share of the steps"]], "steps", (along) => {
    share = along === "share";
    redraw();
  });
}

convergence();
schedules();
