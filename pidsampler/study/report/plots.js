// Drawing the plots as plots.py says them: their panels hold axes with ticks, and series of points. A panel is drawn for
// the width that it has, and again when that changes.

const plotsOf = (kind) => data.plots.filter((plot) => plot.kind === kind);

const ruler = document.createElement("canvas").getContext("2d");
/** The width of a text at 12 px, the size of a plot's texts. */
function textWidth(text) {
  ruler.font = `12px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

/** Where the values of an axis stand between two pixels. */
function scale({ low, high, log }, from, to) {
  const forward = log ? Math.log : Number;
  const [start, length] = [forward(low), forward(high) - forward(low)];
  return (value) => from + ((forward(Math.min(Math.max(value, low), high)) - start) / length) * (to - from);
}

/** Draw a panel's axes in `host`, `inner` pixels high; return its scales, its edges and the groups to draw in. */
function frame(host, { x, y, summary }, inner) {
  const { fontSize } = getComputedStyle(document.documentElement);
  const unit = Math.max(1, parseFloat(fontSize) / 16); // a plot grows with the text
  const width = Math.max(host.clientWidth / unit, 260);
  const [top, right, base] = [30, width - 14, 30 + inner];
  const left = 14 + Math.max(...y.ticks.map(([, text]) => textWidth(text)), 12);
  const room = (right - left) / x.ticks.length;
  const longest = Math.max(...x.ticks.map(([, text]) => textWidth(text)), 0);
  const turned = x.names && longest > room - 6;
  const height = base + 44 + (turned ? Math.min(longest, 150) * 0.72 - 8 : 0);
  const atY = scale(y, base, top);
  const atX = x.names ? scale(x, left, right) : scale(x, left + 4, right - 4);

  const back = draw("g", { role: "img", "aria-label": summary });
  const line = (name, x1, y1, x2, y2) => back.append(draw("line", { class: name, x1, y1, x2, y2 }));
  const write = (text, attributes) => back.append(draw("text", attributes, text));
  for (const [tick, text] of y.ticks) {
    line(tick === 0 ? "axis" : "grid", left, atY(tick), right, atY(tick));
    write(text, { x: left - 7, y: atY(tick), dy: "0.34em", "text-anchor": "end" });
  }
  let end = -Infinity; // of the tick's text before
  for (const [tick, text] of x.ticks) {
    const at = atX(tick);
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
  return { back, marks, atX, atY, left, right, top, base };
}

const DASHES = ["", "6 3", "2 3", "8 3 2 3"];
const stroke = (dash, name, d) => draw("path", { class: name, d, "stroke-dasharray": DASHES[dash % DASHES.length] || null });
const trace = (points) => points.map(({ px, py }, index) => `${index ? "L" : "M"}${px},${py}`).join("");

/** A point's title and lines in the tooltip, unless its plot knows better. */
function aboutPoint({ of, x: axis, y: { digits } }, { line, x, y, low, high, note }) {
  const lines = [[of, number(y, digits)]];
  if (finite(low)) lines.push(["interval", between({ low, high }, digits)]);
  if (axis.title && String(x) !== note) lines.push([axis.title, String(Number(x.toPrecision(3)))]);
  return [`${line.label}: ${note}`, lines];
}

/**
 * Draw a panel in `host`, and return its frame with `points`, each with its `mark`, and `lines`, a group per series.
 * about(point): what its tooltip says; act(point): what a press on it does; highlight(index): brings a line out, -1 none.
 */
function drawPanel(host, panel, inner, { about = (point) => aboutPoint(panel, point), act, highlight } = {}) {
  const plot = frame(host, panel, inner);
  const pointsOf = (line) => line.x.map((x, i) => ({
    line, x, y: line.y[i], low: line.low[i], high: line.high[i], color: line.color[i], shape: line.shape[i],
    ring: line.ring[i], cell: line.cell?.[i], note: line.note?.[i], px: plot.atX(x), py: plot.atY(line.y[i]),
  }));
  const groups = panel.series.map(pointsOf);
  plot.points = groups.flat();
  if (panel.front) setApart(plot.points);
  plot.lines = panel.series.map((line, index) => {
    const points = groups[index];
    // Where they would touch one another, markers show only when they are pointed at.
    const dense = line.joined === "line" && points.length > 1 &&
      (points.at(-1).px - points[0].px) / (points.length - 1) < 11;
    const [on, off] = [() => highlight?.(index), () => highlight?.(-1)];
    for (const point of points) {
      const [title, [[, value]]] = about(point);
      const hands = act && {
        click: () => act(point),
        keydown: (event) => {
          if (event.key !== "Enter" && event.key !== " ") return;
          event.preventDefault();
          act(point);
        },
      };
      const range = finite(point.low) ? `M${point.px},${plot.atY(point.low)}V${plot.atY(point.high)}` : "";
      point.mark = tipped(draw("g", {
        class: dense ? "mark dense" : "mark", role: act ? "button" : "img", "aria-label": `${title}: ${value}`,
        style: { color: colour(point.color) }, focus: on, blur: off, ...hands,
      }, draw("path", { class: "bar", d: range }), draw("g", { transform: `translate(${point.px},${point.py})` },
        point.ring ? draw("circle", { class: "ring", r: 9 }) : null,
        draw("circle", { class: "hit", r: 9 }), marker(point.shape))), () => about(point));
    }
    const path = trace(points);
    const drawn = line.joined === "line"
      ? [draw("path", { class: "wide", d: path }), stroke(line.dash, "thin", path)]
      : line.joined ? [stroke(0, "thread", path)] : [];
    const style = { color: colour(line.color[0] ?? 0) };
    return draw("g", { class: line.joined || null, style, pointerenter: on, pointerleave: off }, ...drawn,
      points.map(({ mark }) => mark));
  });
  plot.marks.append(...plot.lines);
  const order = panel.front ? plot.points.toSorted((a, b) => a.px - b.px) : plot.points;
  roving(plot.marks, order.map(({ mark }) => mark));
  if (panel.front) best(plot, panel);
  return plot;
}

/** Move points of equal cost beside one another, in the order of their colours. */
function setApart(points) {
  for (const equal of Map.groupBy(points, (point) => point.x).values()) {
    const colours = [...new Set(equal.map(({ color }) => color))].sort((a, b) => a - b);
    const gap = Math.min(3, 20 / colours.length);
    for (const point of equal) point.px += gap * (colours.indexOf(point.color) - (colours.length - 1) / 2);
  }
}

/** What none beats at its cost, with labels, and the level to compare with. */
function best(plot, { front, stairs, level, y }) {
  const at = new Map(plot.points.map((point) => [point.cell, point]));
  const points = front.map((cell) => at.get(cell));
  if (stairs) {
    const steps = points.map(({ px, py }, index) => (index ? `H${px}V${py}` : `M${px},${py}`)).join("");
    plot.back.append(draw("path", { class: "front", d: `${steps}H${plot.right}` }));
  }
  const taken = plot.points.flatMap(({ px, py, low, high }) => [
    [px - 6, py - 6, px + 6, py + 6],
    ...(finite(low) ? [[px - 2, plot.atY(high), px + 2, plot.atY(low)]] : []),
  ]);
  if (level && level[1] > y.low && level[1] < y.high) {
    const [text, at] = [level[0], plot.atY(level[1])];
    plot.back.append(draw("line", { class: "level", x1: plot.left, y1: at, x2: plot.right, y2: at }),
      draw("text", { x: plot.right, y: at - 4, "text-anchor": "end" }, text));
    taken.push([plot.right - textWidth(text), at - 15, plot.right, at]);
  }
  writeLabels(plot, points, taken);
}

/** Write points' labels where they cover no mark and no other label; one without a place is left out. */
function writeLabels(plot, points, taken) {
  const free = ([l, t, r, b]) => l > plot.left && r < plot.right && t > plot.top - 14 && b < plot.base &&
    taken.every(([l2, t2, r2, b2]) => r < l2 || l > r2 || b < t2 || t > b2);
  for (const { cell, px, py } of points) {
    const { label } = cellOf.get(cell);
    const width = textWidth(label);
    const [left, middle, right] = [-width - 9, -width / 2, 9];
    const places = [[right, -20], [left, -20], [right, 5], [left, 5], [middle, -26], [middle, 12], [right + 9, -7],
      [left - 9, -7], [right, -34], [left, -34], [right, 20], [left, 20], [middle, -42], [middle, 28]];
    const box = places.map(([x, y]) => [px + x, py + y, px + x + width, py + y + 14]).find(free);
    if (!box) continue;
    taken.push(box);
    plot.marks.before(draw("text", { class: "name", x: box[0], y: box[1] + 11 }, label));
  }
}

/** Call `render` now, before anything is painted that it would move, and whenever the host's width changes. */
function whenSized(host, render) {
  let width = 0;
  const check = () => {
    if (host.clientWidth === width || !host.clientWidth) return;
    width = host.clientWidth;
    render();
  };
  check();
  new ResizeObserver(check).observe(host);
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

// ---- SVG files ----

const PAINTED = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "opacity",
  "font-family", "font-size", "paint-order"];

/** The plot in `host` as a file of its own: as it stands there, in the colours of white paper. */
function svgText(host) {
  const root = document.documentElement;
  const { theme } = root.dataset;
  const original = $("svg", host);
  const copy = original.cloneNode(true);
  root.dataset.theme = "light";
  const copies = [...copy.querySelectorAll("*")];
  original.querySelectorAll("*").forEach((node, index) => {
    const style = getComputedStyle(node);
    const other = copies[index];
    if (style.display === "none" || node.matches(".hit, .wide")) return other.remove();
    for (const name of PAINTED) other.setAttribute(name, style.getPropertyValue(name));
    if (style.transform !== "none" && !node.hasAttribute("transform")) other.setAttribute("transform", style.transform);
    for (const name of ["class", "style", "tabindex", "role"]) other.removeAttribute(name);
  });
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  return new XMLSerializer().serializeToString(copy);
}

/** A button that saves the plot in `host`, whatever is drawn there then. */
const svgButton = (host, name, label = "SVG") =>
  saveButton(label, () => [`${name()}.svg`, "image/svg+xml", svgText(host)]);
