// Axes and what all plots do alike. A plot is drawn for the width it has, and again when that changes.

const ruler = document.createElement("canvas").getContext("2d");
/** The width of a text at 12 px, the size of a plot's texts. */
function textWidth(text) {
  ruler.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

function linearTicks(low, high, count) {
  const rough = (high - low) / Math.max(count, 1);
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * unit >= rough * 0.999) * unit;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return { ticks, format: (value) => number(Math.abs(value) < step / 2 ? 0 : value, digits) };
}

function logTicks(low, high, count) {
  if (Math.log10(high / low) < 0.5) return linearTicks(low, high, count);
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const factors = to - from <= 3 ? [1, 2, 5] : [1];
  const every = factors.length > 1 ? 1 : Math.ceil((to - from) / Math.max(count, 1));
  const ticks = [];
  for (let exponent = from; exponent <= to; exponent += every) ticks.push(...factors.map((f) => f * 10 ** exponent));
  const format = (tick) => {
    if (tick >= 1e-3 && tick < 1e5) return String(Number(tick.toPrecision(3)));
    return factors.length > 1 ? number(tick, 0) : power(Math.round(Math.log10(tick)));
  };
  return { ticks: ticks.filter((tick) => tick >= low && tick <= high), format };
}

/** A scale from values to pixels. `fixed`: ticks to use instead of round ones; `spacing`: pixels from tick to tick. */
function scale(values, from, to, { log = false, fixed = null, pad = 0.05, spacing = 60 } = {}) {
  const [forward, backward] = log ? [Math.log, Math.exp] : [(value) => value, (value) => value];
  let [low, high] = [forward(Math.min(...values)), forward(Math.max(...values))];
  const margin = (high - low) * pad || (log ? 0.5 : Math.abs(high) * 0.05 || 0.5);
  [low, high] = [low - margin, high + margin];
  const [start, length] = [low, high - low];
  const at = (value) => from + ((forward(value) - start) / length) * (to - from);
  const count = Math.floor(Math.abs(to - from) / spacing);
  [low, high] = [backward(low), backward(high)];
  if (fixed) return { at, low, high, ticks: fixed, format: String };
  return { at, low, high, ...(log ? logTicks : linearTicks)(low, high, count) };
}

/** Whether values are all positive and spread so far that only a logarithm shows them all. */
const wide = (values) => Math.min(...values) > 0 && Math.max(...values) / Math.min(...values) > 30;

/**
 * Draw axes in `host` and return its scales x and y, where its area ends, and the groups to draw in: back and marks.
 * x: { values, title, log, fixed }, or { names, title } for one place per name. y: { values, title, log }.
 * inner: the height of the area. summary: what the plot says, in words.
 */
function frame(host, { x, y, inner, summary }) {
  const { fontSize } = getComputedStyle(document.documentElement);
  const unit = Math.max(1, parseFloat(fontSize) / 16); // a plot grows with the text
  const width = Math.max(host.clientWidth / unit, 260);
  const [top, right, base] = [30, width - 14, 30 + inner];
  const ys = scale(y.values, base, top, { log: y.log, spacing: 44 });
  const left = 14 + Math.max(...ys.ticks.map((tick) => textWidth(ys.format(tick))), 12);
  const room = x.names && (right - left) / x.names.length;
  const longest = x.names && Math.max(...x.names.map(textWidth));
  const turned = x.names !== undefined && longest > room - 6;
  const height = base + 44 + (turned ? Math.min(longest, 150) * 0.72 - 8 : 0);
  const xs = x.names
    ? { at: (index) => left + room * (index + 0.5), ticks: [...x.names.keys()], format: (index) => x.names[index] }
    : scale(x.values, left + 8, right - 8, { log: x.log, fixed: x.fixed, pad: 0.03, spacing: 70 });

  const back = draw("g", { role: "img", "aria-label": summary });
  const line = (name, x1, y1, x2, y2) => back.append(draw("line", { class: name, x1, y1, x2, y2 }));
  const write = (text, attributes) => back.append(draw("text", attributes, text));
  for (const tick of ys.ticks) {
    line(tick === 0 ? "axis" : "grid", left, ys.at(tick), right, ys.at(tick));
    write(ys.format(tick), { x: left - 7, y: ys.at(tick), dy: "0.34em", "text-anchor": "end" });
  }
  let end = -Infinity; // of the tick's text before
  for (const tick of xs.ticks) {
    const [at, text] = [xs.at(tick), xs.format(tick)];
    const half = textWidth(text) / 2;
    if (!turned && at - half < end + 6) continue;
    end = at + half;
    line("axis", at, base, at, base + 4);
    if (turned) {
      const short = half > 75 ? `${text.slice(0, 20)}…` : text;
      write(short, { transform: `translate(${at + 4},${base + 14}) rotate(-45)`, "text-anchor": "end" });
    } else write(text, { x: at, y: base + 18, "text-anchor": "middle" });
  }
  line("axis", left, base, right, base);
  write(y.title, { class: "title", x: 0, y: 12 });
  write(x.title, { class: "title", x: right, y: height - 4, "text-anchor": "end" });
  const marks = draw("g", { role: "group", "aria-label": "marks" });
  const size = { viewBox: `0 0 ${width} ${height}`, width: width * unit, height: height * unit };
  host.replaceChildren(draw("svg", size, back, marks));
  return { back, marks, x: xs, y: ys, left, right, top, base };
}

/** Call `render` when the host has a width, and whenever that changes. */
function whenSized(host, render) {
  let width = 0;
  new ResizeObserver(() => {
    if (host.clientWidth === width || !host.clientWidth) return;
    width = host.clientWidth;
    render();
  }).observe(host);
}

/** Tab reaches one of the nodes, arrow keys the others, in their order. */
function roving(group, nodes) {
  nodes.forEach((node, index) => node.setAttribute("tabindex", index ? -1 : 0));
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const from = nodes.indexOf(document.activeElement);
    const next = nodes[(from + step + nodes.length) % nodes.length];
    nodes[from]?.setAttribute("tabindex", -1);
    next.setAttribute("tabindex", 0);
    next.focus();
  });
}

/** A polyline through [x, y] in pixels. */
const trace = (points) => points.map(([x, y], index) => `${index ? "L" : "M"}${x},${y}`).join("");

/** An error bar at `x` in pixels, as far as the scale goes. */
function bar(x, y, { low, high }) {
  if (!finite(low) || !finite(high)) return "";
  const [from, to] = [low, high].map((value) => y.at(Math.min(Math.max(value, y.low), y.high)));
  return `M${x},${from}V${to}`;
}

/** A marker at (x, y) in pixels, and a circle around it that is easier to hit. */
const spot = (x, y, shape, ring = "hit") =>
  draw("g", { transform: `translate(${x},${y})` }, draw("circle", { class: ring, r: 9 }), marker(shape));

/** All numbers that points reach. */
const extent = (points) => points.flatMap(({ mean, low, high }) => [mean, low, high]).filter(finite);

/** The title of a measure's axis, with which way is better. */
function axisTitle(measure) {
  const better = { higher: "  ↑ better", lower: "  ↓ better", zero: "  0 is best" }[measure.better] ?? "";
  return withUnit(measure) + better;
}
