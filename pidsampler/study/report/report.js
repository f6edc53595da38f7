"use strict";
// What all parts of the page share, and its head. A text of the data reaches the page as a text node only.

document.body.classList.add("drawn"); // it is painted once this script has ended
const data = JSON.parse(document.getElementById("data").textContent);
const COSTS = ["calls", "seconds", "network", "sampler", "memory"];
const $ = (selector, root = document) => root.querySelector(selector);
const finite = Number.isFinite;

const cellOf = new Map(data.cells.map((cell) => [cell.id, cell]));
const preset = data.cells.find((cell) => cell.preset);
const measured = data.measures.filter((measure) => data.cells.some((cell) => finite(cell.results[measure.name]?.mean)));
const quality = measured.filter((measure) => !COSTS.includes(measure.name));
const directed = (measure) => measure.better === "higher" || measure.better === "lower";

// Everything that can change by hand and concerns more than one part. Parts listen for "measure" and "chosen".
const page = new EventTarget();
page.measure = quality.find(directed) ?? quality[0];
page.chosen = new Set(); // what the viewer compares: ids of cells, "input", "reference"

function choose(key, on = !page.chosen.has(key)) {
  page.chosen[on ? "add" : "delete"](key);
  page.dispatchEvent(new Event("chosen"));
}

// ---- Elements ----

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (name === "style") Object.assign(node.style, value); // an attribute would need the policy's leave
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/** The parts of a definition list, of [term, text] each. */
const terms = (pairs) => pairs.map(([term, text]) => make("div", {}, make("dt", {}, term), make("dd", {}, text)));

/** Give a select its options, [value, text] each. */
function options(select, pairs) {
  select.replaceChildren(...pairs.map(([value, text]) => make("option", { value }, text)));
  return select;
}

/** Fill a fieldset with radio buttons that look like one segmented button. */
function segments(fieldset, name, pairs, chosen, change) {
  for (const [value, text] of pairs) {
    const input = make("input", { type: "radio", name, value, checked: value === chosen, change: () => change(value) });
    fieldset.append(make("label", {}, input, make("span", {}, text)));
  }
}

// ---- Files to take away ----

/** A button that saves what `content` returns: [name, type, text]. */
function saveButton(label, content) {
  return make("button", { type: "button", class: "save", title: `Save as ${label}`, click: () => {
    const [name, type, text] = content();
    const url = URL.createObjectURL(new Blob([text], { type }));
    make("a", { href: url, download: name.replace(/[^\w.-]+/g, "-") }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  } }, label);
}

/** Rows of values as CSV. */
const csv = (rows) => rows.map((row) => row.map((value) => {
  const text = String(value ?? "");
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}).join(",")).join("\n") + "\n";

// ---- Numbers ----

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const power = (exponent) =>
  `10${exponent < 0 ? "⁻" : ""}${[...String(Math.abs(exponent))].map((digit) => SUPERSCRIPTS[digit]).join("")}`;

/** A number with `digits` decimals; one that would show as nothing but zeros, or is huge, in powers of ten. */
function number(value, digits = 2) {
  if (!finite(value)) return "–";
  const size = Math.abs(value);
  let text = size.toFixed(digits);
  if (size !== 0 && (size < 0.5 * 10 ** -digits || size >= 1e7)) {
    const [mantissa, exponent] = size.toExponential(1).split("e");
    text = `${mantissa}·${power(Number(exponent))}`;
  }
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

const between = ({ low, high }, digits) => (finite(low) ? `${number(low, digits)} to ${number(high, digits)}` : "–");
const numeric = (text) => text.trim() !== "" && finite(Number(text));
const signed = (value, digits) => (value > 0 ? "+" : "") + number(value, digits);
const withUnit = (measure) => (measure.unit ? `${measure.name} (${measure.unit})` : measure.name);
const probability = (p) => (p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`);

/** What a cell's difference to the preset is: "better", "worse", "other", "noise", or "" where there is none. */
function verdict(measure, result) {
  const difference = result?.difference;
  if (!finite(difference?.mean)) return "";
  if (difference.noise) return "noise";
  if (!measure.better) return "other";
  // The preset's mean over the same runs is the cell's less the difference.
  const gain = { higher: difference.mean, lower: -difference.mean,
    zero: Math.abs(result.mean - difference.mean) - Math.abs(result.mean) }[measure.better];
  return gain > 0 ? "better" : gain < 0 ? "worse" : "noise";
}

const SIGNS = { better: "▲", worse: "▼", other: "◆", noise: "≈" };
const WORDS = { better: "better than the preset", worse: "worse than the preset", other: "differs from the preset",
  noise: "within noise of the preset" };

/** Lines of [term, text] that say all there is about one measure of one cell. */
function account(cell, measure) {
  const result = cell.results[measure.name];
  if (!finite(result?.mean)) return [[measure.name, "–"]];
  const { mean, low, high, n, difference } = result;
  const digits = measure.digits;
  const lines = [[withUnit(measure), number(mean, digits)]];
  if (finite(low) && low !== high) lines.push(["interval", between(result, digits)]);
  if (finite(n)) lines.push(["runs", String(n)]);
  if (finite(difference?.mean)) {
    const { mean, low, high, p } = difference;
    lines.push(["to the preset", signed(mean, digits)]);
    if (finite(low)) lines.push(["", `${signed(low, digits)} to ${signed(high, digits)}`]);
    lines.push([WORDS[verdict(measure, result)], finite(p) ? probability(p) : ""]);
  }
  return lines;
}

// ---- The tooltip ----

/** Show the tooltip beside `target`: a title and lines of [term, text]. */
function showTip(target, title, lines) {
  const tip = $("#tip");
  tip.replaceChildren(make("b", {}, title),
    make("dl", {}, lines.flatMap(([term, text]) => [make("dt", {}, term), make("dd", {}, text)])));
  tip.hidden = false;
  const at = target.getBoundingClientRect();
  const { width, height } = tip.getBoundingClientRect();
  const room = document.documentElement.clientWidth - width - 8;
  tip.style.left = `${Math.min(Math.max(at.left + at.width / 2 - width / 2, 8), room)}px`;
  tip.style.top = `${at.top - height - 10 > 0 ? at.top - height - 10 : at.bottom + 10}px`;
}

const hideTip = () => { $("#tip").hidden = true; };
addEventListener("scroll", hideTip, { capture: true, passive: true });

/** Listeners that show what `about()` returns ([title, lines]) while `node`, a mark, is pointed at or focused. */
function tipped(node, about) {
  for (const on of ["pointerenter", "focus"]) node.addEventListener(on, () => showTip($("circle", node), ...about()));
  for (const off of ["pointerleave", "blur"]) node.addEventListener(off, hideTip);
  return node;
}

// ---- Colour by the first axis, shape by the second ----

const [axis0, axis1] = data.axes;
const COLOURS = 8;

/** The palette's colours, then the same ones nearer to the ink, then nearer to the paper. */
function colour(index) {
  const base = `var(--c${index % COLOURS})`;
  const turn = Math.floor(index / COLOURS) % 3;
  return turn ? `color-mix(in oklab, ${base} 55%, var(--${turn === 1 ? "ink" : "paper"}))` : base;
}

const rank = (axis, cell) => (axis ? Math.max(0, axis.values.indexOf(cell.settings[axis.name])) : 0);

const SHAPES = [
  "M-4.4,0a4.4,4.4 0 1,0 8.8,0a4.4,4.4 0 1,0 -8.8,0z",
  "M-4,-4h8v8h-8z",
  "M0,-5.2L5,3.7H-5z",
  "M0,-5.7L5,0L0,5.7L-5,0z",
  "M0,5.2L5,-3.7H-5z",
  "M-1.7,-5.2h3.4v3.5h3.5v3.4h-3.5v3.5h-3.4v-3.5h-3.5v-3.4h3.5z",
  "M-5,0L-2.5,-4.4H2.5L5,0L2.5,4.4H-2.5z",
  "M-4.9,-2.5L-2.5,-4.9L0,-2.4L2.5,-4.9L4.9,-2.5L2.4,0L4.9,2.5L2.5,4.9L0,2.4L-2.5,4.9L-4.9,2.5L-2.4,0z",
];
/** A marker: after the eight shapes the same ones hollow. */
const marker = (index) =>
  draw("path", { class: index % 16 >= 8 ? "marker hollow" : "marker", d: SHAPES[index % 8] });
/** A marker to stand in a line of text, in a colour's index or the text's own colour. */
function swatch(index, shape = 0) {
  const style = index === null ? {} : { color: colour(index) };
  return draw("svg", { class: "swatch", viewBox: "-7 -7 14 14", "aria-hidden": "true", style }, marker(shape));
}
const swatchOf = (cell) => swatch(rank(axis0, cell), rank(axis1, cell));

// ---- The head ----

/** Take a section away that the data has nothing for. */
const drop = (id) => $(`#${id}`).remove();

function head() {
  $("#title").textContent = data.title;
  $("#question").textContent = data.question;
  $("#finding").textContent = data.finding;
  $("#sampling").textContent = data.sampling;
  for (const [id, pairs] of [["preset", Object.entries(data.preset)], ["made", data.made]]) {
    $(`#${id}`).append(...terms(pairs));
  }
  if (data.file === null) return drop("file");
  $("#file pre").textContent = data.file;
  $("#file").append(saveButton("TOML", () => [`${data.title}.toml`, "application/toml", data.file]));
}

function contents() {
  $("#contents").append(...[...document.querySelectorAll("main > section")].map((section) =>
    make("a", { href: `#${section.id}` }, section.dataset.title)));
}

function theme() {
  const root = document.documentElement;
  const button = $("#theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    button.textContent = (root.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-label", `${button.textContent} colors`);
  };
  try {
    const kept = localStorage.getItem("pidsampler-theme");
    if (kept === "light" || kept === "dark") root.dataset.theme = kept;
  } catch { /* a browser may keep nothing for files */ }
  button.addEventListener("click", () => {
    root.dataset.theme = button.textContent.toLowerCase();
    try { localStorage.setItem("pidsampler-theme", root.dataset.theme); } catch { /* as above */ }
    show();
  });
  dark.addEventListener("change", show);
  show();
}

function keys() {
  $("#keys-button").addEventListener("click", () => $("#keys").showModal());
  document.addEventListener("keydown", (event) => {
    if (event.key === "?" && !event.target.matches("input[type=search]") && !$("#keys").open) $("#keys").showModal();
    if (event.key === "Escape") hideTip();
  });
}

head();
theme();
keys();
