// The four plots on the page: quality against cost and the effect of each axis, of the measure that is chosen for all;
// convergence and schedules, whose lines a table names, brings out and takes away.

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

const wideEnough = (host, share) => Math.min(Math.max(host.clientWidth * share, 260), 540);
const nothing = (text) => make("p", { class: "note" }, text);

function pareto() {
  const plots = plotsOf("pareto");
  if (!plots.length) return drop("pareto");
  const host = $("#pareto .plot");
  const costs = measured.filter(({ name }) => plots.some(({ panels }) => panels.some(({ of }) => of === name)));
  const titles = { calls: "model calls", seconds: "seconds per run" };
  let cost = costs[0];
  let points = [];

  function render() {
    const { measure } = page;
    const panel = plots.find((plot) => plot.measure === measure.name)?.panels.find(({ of }) => of === cost.name);
    points = [];
    if (!panel) return host.replaceChildren(nothing("No cell has both numbers."));
    const about = (point) => {
      const cell = cellOf.get(point.cell);
      return [cell.label, [...account(cell, measure), account(cell, cost)[0]]];
    };
    const act = ({ cell }) => {
      if (viewable(cell)) choose(cell);
      showRow(cell);
    };
    ({ points } = drawPanel(host, panel, wideEnough(host, 0.45), { about, act }));
    showChosen();
  }

  function showChosen() {
    for (const { mark, cell } of points) {
      mark.classList.toggle("chosen", page.chosen.has(cell));
      mark.setAttribute("aria-pressed", page.chosen.has(cell));
    }
  }

  segments($("#cost"), "cost", costs.map(({ name }) => [name, titles[name]]), cost.name, (name) => {
    cost = costs.find((measure) => measure.name === name);
    render();
  });
  for (const [axis, values] of plots[0].legend) {
    const items = values.map(([value, color, shape]) => {
      const on = () => points.forEach(({ mark, cell }) =>
        mark.classList.toggle("dim", cellOf.get(cell).settings[axis] !== value));
      const off = () => points.forEach(({ mark }) => mark.classList.remove("dim"));
      const hands = { pointerenter: on, focus: on, pointerleave: off, blur: off };
      return make("button", { type: "button", ...hands }, swatch(color, shape), value);
    });
    $("#pareto .legend").append(make("div", { role: "group", "aria-label": axis }, make("span", {}, axis), items));
  }
  $("#pareto .controls").append(svgButton(host, () => `pareto-${page.measure.name}-${cost.name}`));
  page.addEventListener("measure", render);
  page.addEventListener("chosen", showChosen);
  whenSized(host, render);
}

function effects() {
  const plots = plotsOf("effects");
  if (!plots.length) return drop("effects");
  for (const { axis, panels } of plots) {
    const host = make("div", { class: "plot" });
    const save = svgButton(host, () => `effects-${axis}-${page.measure.name}`);
    const style = { flexGrow: 2 + panels[0].series[0].x.length };
    $("#effects .multiples").append(make("figure", { style }, make("figcaption", {}, axis, save), host));
    const render = () => {
      const panel = panels.find(({ of }) => of === page.measure.name);
      if (panel) drawPanel(host, panel, 220);
      else host.replaceChildren(nothing("–"));
    };
    whenSized(host, render);
    page.addEventListener("measure", render);
  }
}

/** Plots that share lines, a host each, and their table; its columns after the name's are `facts`. */
function lineFigure(hosts, panels, table, facts, share) {
  const { series } = panels[0];
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
  const rows = series.map((line, index) => {
    const [on, out] = [() => show(index), () => show(-1)];
    const style = { color: colour(line.color[0]) };
    const key = draw("svg", { class: "key", viewBox: "-16 -7 32 14", "aria-hidden": "true", style },
      stroke(line.dash, "thin", "M-16,0H16"), marker(line.shape[0]));
    const attributes = { type: "button", "aria-pressed": "true", focus: on, blur: out };
    const button = make("button", attributes, key, make("span", {}, line.label));
    button.addEventListener("click", () => {
      off[off.has(index) ? "delete" : "add"](index);
      button.setAttribute("aria-pressed", !off.has(index));
      show(index);
    });
    const cells = line.facts.map((text) => make("td", { class: "number" }, text));
    return make("tr", { pointerenter: on, pointerleave: out }, make("td", {}, button), cells);
  });
  const titles = facts.map((title) => make("th", { class: "number" }, title));
  table.append(make("table", {}, make("thead", {}, make("tr", {}, make("th"), titles)), make("tbody", {}, rows)));
  hosts.forEach((host, index) => panels[index] && whenSized(host, () => {
    plots[index] = drawPanel(host, panels[index], wideEnough(host, share), { highlight: show });
    show(-1);
  }));
}

function convergence() {
  const [plot] = plotsOf("convergence");
  if (!plot) return drop("convergence");
  for (const panel of plot.panels) {
    const host = make("div", { class: "plot" });
    const table = make("div", { class: "lines" });
    const controls = make("div", { class: "controls" }, svgButton(host, () => `convergence-${panel.of}`));
    $("#convergence .parts").append(controls, make("div", { class: "beside" }, host, table));
    lineFigure([host], [panel], table, plot.facts, 0.62);
  }
}

function schedules() {
  const [plot] = plotsOf("schedules");
  if (!plot) return drop("schedules");
  const hosts = [...document.querySelectorAll("#schedules .plot")];
  lineFigure(hosts, plot.panels, $("#schedules .lines"), plot.facts, 0.5);
  plot.panels.forEach(({ of }, index) =>
    $("#schedules .controls").append(svgButton(hosts[index], () => `schedules-${of}`, `SVG of ${of}`)));
}

pareto();
effects();
convergence();
schedules();
if (quality.length) measureSelects();
