/** @file The page: puts the form, the stage and the worker together. `window.result` holds what came of the last run. */

import { isolated } from "./isolated.js";
import { fetchPhoto, readPhoto } from "./photo.js";
import { addOptions, CHOICES, choose, SamplerForm } from "./settings.js";
import { Stage } from "./stage.js";

/**
 * @typedef {import("./pixels.js").Picture} Picture
 * @typedef {{state: "done" | "cancelled" | "failed", message: string, image?: string, model?: string, seed?: string,
 *   samplers?: {spec: string, calls: number, seconds: number, picture: Picture}[], threads?: number,
 *   seconds?: number}} Result
 * @typedef {{id: number, start: number, image: string, model: string, seed: string, specs: string[],
 *   tables: import("./table.js").Row[][], rows: HTMLElement[], input: Picture}} Running
 */

const EXAMPLE = "chameleon.jpg";
const INPUT = "input.png"; // what "Save input" writes
const ARROWS = { ArrowLeft: -1, ArrowRight: 1 };
const OWN_ENTER = "button, a, summary, input[type=file]";
const OWN_ARROWS = "input:not([type=checkbox]), select, pre";
const ADDRESS = ["model", "seed", "image", "side", ...CHOICES, ...CHOICES.map((name) => `${name}2`)];

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 */
function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${id}`);
  return found;
}

await isolated();
const form = element("settings", HTMLFormElement);
const model = element("model", HTMLSelectElement);
const side = element("side", HTMLSelectElement);
const examples = element("examples", HTMLSelectElement);
const seed = element("seed", HTMLInputElement);
const file = element("file", HTMLInputElement);
const both = element("both", HTMLInputElement);
const command = element("command", HTMLElement);
const status = element("status", HTMLElement);
const trouble = element("trouble", HTMLElement);
const bar = element("bar", HTMLProgressElement);
const runButton = element("run", HTMLButtonElement);
const cancelButton = element("cancel", HTMLButtonElement);
const saveButton = element("save", HTMLButtonElement);
const saveInputButton = element("save-input", HTMLButtonElement);
const stage = new Stage(element("stage", HTMLElement));

/** @type {import("./settings.js").Catalogue} */
const catalogue = await fetchCatalogue();
const second = element("second", HTMLElement);
const forms = ["Sampler", "Second sampler"].map(
  (legend, i) => new SamplerForm(element(["first", "second"][i], HTMLElement), catalogue, legend, describe),
);
const worker = new Worker("worker.js", { type: "module" });

/** @type {{blob: Blob, name: string, path: string | null}} */
let photo = { blob: new Blob(), name: "", path: null };
/** @type {Awaited<ReturnType<typeof readPhoto>> | null} */
let input = null;
/** @type {Running | null} */
let running = null;
let runs = 0;
let reads = 0;
/** @type {Picture[]} */
let shown = []; // results of the last run

/**
 * Say what came of a run, to scripts: in `window.result`, and its state on the page's root.
 * @param {Result | null} result null while a run goes on
 */
function publish(result) {
  /** @type {any} */ (window).result = result;
  if (result) document.documentElement.dataset.state = result.state;
  else delete document.documentElement.dataset.state;
}

/**
 * Say something in words.
 * @param {string} text
 * @param {string} wrong what went wrong, on a line of its own
 */
function say(text, wrong = "") {
  status.textContent = text;
  trouble.textContent = wrong;
}

/** Fetch what the build wrote, or say what is missing and stop there. */
async function fetchCatalogue() {
  try {
    return await (await fetch("tables.json")).json();
  } catch {
    const message =
      "tables.json is not on this server: make the folder by docs/playground/build.py, and serve all of it.";
    publish({ state: "failed", message });
    say("", message);
    return new Promise(() => {});
  }
}

/**
 * Nothing comes of the run.
 * @param {string} message
 */
function fail(message) {
  publish({ state: "failed", message });
  end();
  say("", message);
}

/**
 * Say what cannot be done. A run that goes on, and what came of one, stay.
 * @param {unknown} error
 */
function refuse(error) {
  const message = error instanceof Error ? error.message : String(error);
  const { result } = /** @type {{result?: Result | null}} */ (/** @type {any} */ (window));
  if (!running && (result?.state ?? "failed") === "failed") publish({ state: "failed", message });
  trouble.textContent = message;
}

/** The samplers that are asked for. */
const wanted = () => forms.slice(0, both.checked ? 2 : 1);

/** Say the command that makes the same picture: of the saved input, where the file may give the command other pixels. */
function describe() {
  const file = input?.plain ? photo.name : INPUT;
  const name = /^\w[\w.-]*$/.test(file) ? file : `'./${file.replaceAll("'", "'\\''")}'`;
  const line = (/** @type {SamplerForm} */ { spec }) =>
    `pidsampler upscale ${name} --model ${model.value} --scheduler '${spec}' --seed ${seed.value} -o out.png`;
  const first = input?.plain ? [] : [`# ${INPUT} is what "Save input" writes`];
  command.textContent = [...first, ...wanted().map(line)].join("\n");
}

/** The model as the worker wants it. */
const chosen = () => ({ name: model.value, facts: catalogue.models[model.value], tile: catalogue.tile });

/**
 * Take a photo.
 * @param {Blob} blob
 * @param {string} name
 * @param {string | null} path of one that the server has
 */
async function take(blob, name, path) {
  const number = ++reads;
  const read = await readPhoto(blob, name, Number(side.value));
  if (number !== reads) return; // another one was asked for meanwhile
  cancel();
  photo = { blob, name, path };
  examples.value = path && catalogue.examples.includes(path) ? path : "";
  input = read;
  shown = [];
  stage.reset(read);
  saveButton.hidden = true;
  saveInputButton.hidden = false;
  const { scale } = catalogue.models[model.value];
  say(`${name} at ${read.width}x${read.height}. The result will be ${read.width * scale}x${read.height * scale}.`);
  describe();
}

/** @param {string} path */
async function takeFromServer(path) {
  const example = catalogue.examples.includes(path);
  await take(await fetchPhoto(example ? `examples/${path}` : path), path.split("/").at(-1) || path, path);
}

/** @param {File | undefined} chosenFile */
function takeFile(chosenFile) {
  if (!chosenFile) return;
  take(chosenFile, chosenFile.name, null).catch(refuse);
}

function run() {
  if (!input) return refuse("There is no photo yet: drop one, or choose an example.");
  if (!/^\d{1,20}$/.test(seed.value) || BigInt(seed.value) >= 1n << 64n) {
    return refuse(`The seed is ${seed.value || "empty"}: enter a whole number, 0 to 2^64 - 1.`);
  }
  cancel();
  publish(null);
  stage.reset(input);
  const names = wanted().map((each) => each.table);
  const specs = wanted().map((each) => each.spec);
  const tables = names.map((name) => catalogue.tables[name]);
  const rows = specs.map((spec) => stage.addRow(spec));
  const facts = { image: photo.name, model: model.value, seed: seed.value, specs, tables, rows, input };
  running = { id: ++runs, start: performance.now(), ...facts };
  describe();
  remember();
  cancelButton.disabled = false;
  bar.hidden = false;
  bar.value = 0;
  say("Loading the model");
  stage.frame.scrollIntoView({ block: "nearest" });
  worker.postMessage({ kind: "run", id: runs, model: chosen(), picture: input, seed: BigInt(seed.value), tables });
}

/** Put the settings into the page's address. */
function remember() {
  const address = new URLSearchParams({ model: model.value });
  for (const [i, each] of wanted().entries()) each.write(address, i ? "2" : "");
  address.set("seed", seed.value);
  if (photo.path) address.set("image", photo.path);
  address.set("side", side.value);
  history.replaceState(null, "", `?${address}`);
}

/** Nothing is waited for any more. */
function end() {
  running = null;
  worker.postMessage({ kind: "cancel" });
  cancelButton.disabled = true;
  bar.hidden = true;
}

function cancel() {
  if (!running) return;
  publish({ state: "cancelled", message: "The run was cancelled." });
  end();
  say("Cancelled.");
}

/**
 * The side that a sampler's pictures are on: alone, it stands beside the input.
 * @param {Running} run
 * @param {number} table
 */
const sideOf = (run, table) => /** @type {import("./stage.js").Side} */ (run.tables.length === 1 ? 1 : table);

/** @param {MessageEvent<import("./worker.js").Report>} event */
function report({ data }) {
  if (!running || data.id !== running.id) return;
  if (data.kind === "failed") return fail(data.message);
  if (data.kind === "progress") {
    const calls = running.tables.reduce((sum, rows) => sum + rows.length, 0);
    bar.value = data.share;
    status.textContent = `Call ${Math.min(calls, 1 + Math.floor(data.share * calls))} of ${calls}`;
    return;
  }
  if (data.kind === "step") {
    const { t } = running.tables[data.table][data.row];
    const caption = String(data.row + 1);
    const title = `x0 of call ${caption} at t = ${t.toPrecision(3)}`;
    const words = { caption, title, label: `${running.specs[data.table]}, call ${caption}` };
    stage.divide(true);
    stage.addStep(running.rows[data.table], sideOf(running, data.table), data.picture, words);
    return;
  }
  finish(running, data);
}

/**
 * @param {Running} run
 * @param {import("./worker.js").Report & {kind: "done"}} done
 */
function finish(run, { pictures, seconds, threads }) {
  shown = pictures;
  const samplers = pictures.map((picture, i) => {
    const words = { caption: "result", title: `Result of ${run.specs[i]}`, label: run.specs[i] };
    stage.addStep(run.rows[i], sideOf(run, i), picture, words);
    return { spec: run.specs[i], calls: run.tables[i].length, seconds: seconds[i], picture };
  });
  const taken = (performance.now() - run.start) / 1000;
  const each = samplers.map(({ spec, calls, seconds: own }) => `${spec}: ${calls} calls, ${own.toFixed(1)} s`);
  const message = `${each.join("; ")}. ${threads} thread${threads > 1 ? "s" : ""}.`;
  end();
  status.textContent = message;
  saveButton.hidden = false;
  const { image, model: name, seed: number } = run;
  publish({ state: "done", message, image, model: name, seed: number, samplers, threads, seconds: taken });
}

/**
 * Save a picture as PNG.
 * @param {Picture} picture
 * @param {string} name
 */
async function save({ data, width, height }, name) {
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d")?.putImageData(new ImageData(/** @type {ImageDataArray} */ (data), width, height), 0, 0);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await canvas.convertToBlob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/**
 * Choose what the page's address asks for.
 * @param {URLSearchParams} address
 */
function read(address) {
  both.checked = CHOICES.some((name) => address.has(`${name}2`));
  second.hidden = !both.checked;
  seed.value = address.get("seed") ?? seed.value;
  for (const select of [side, model]) {
    const value = address.get(select.name);
    if (value !== null) choose(select, value);
  }
  for (const each of forms) each.setModel(model.value);
  forms[0].read(address);
  forms[1].read(address, "2");
}

/** Take the settings and the photo of the page's address, and start. Where one cannot be had there is a photo all the same. */
async function startFromAddress() {
  const address = new URLSearchParams(location.search);
  for (const each of forms) each.setModel(model.value);
  forms[1].lists.scheduler.value = "heun";
  forms[1].refresh();
  /** @type {unknown} */
  let wrong;
  try {
    read(address);
  } catch (error) {
    wrong = error;
  }
  worker.postMessage({ kind: "load", model: chosen() });
  await takeFromServer(address.get("image") ?? EXAMPLE).catch((error) => {
    wrong ??= error;
    return input ? undefined : takeFromServer(EXAMPLE);
  });
  if (wrong) throw wrong;
  if (ADDRESS.some((name) => address.has(name))) run();
}

worker.onmessage = report;
worker.onerror = (event) => fail(`The worker stopped: ${event.message || "it could not be loaded"}.`);
addOptions(model, Object.keys(catalogue.models));
addOptions(examples, catalogue.examples);
element("version", HTMLElement).textContent = catalogue.version;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
cancelButton.addEventListener("click", cancel);
model.addEventListener("change", () => {
  for (const each of forms) each.setModel(model.value);
  worker.postMessage({ kind: "load", model: chosen() });
});
both.addEventListener("change", () => {
  second.hidden = !both.checked;
});
form.addEventListener("change", describe);
side.addEventListener("change", () => input && take(photo.blob, photo.name, photo.path).catch(refuse));
examples.addEventListener("change", () => takeFromServer(examples.value).catch(refuse));
element("choose", HTMLButtonElement).addEventListener("click", () => file.click());
file.addEventListener("change", () => {
  takeFile(file.files?.[0]);
  file.value = "";
});
saveButton.addEventListener("click", () => shown.forEach((picture, i) => void save(picture, `result-${i + 1}.png`)));
saveInputButton.addEventListener("click", () => input && save(input, INPUT));
addEventListener("keydown", (event) => {
  const { key, target } = event;
  const inside = (/** @type {string} */ kinds) => target instanceof Element && target.closest(kinds);
  if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (key === "Escape") cancel();
  if (key === "Enter" && !inside(OWN_ENTER)) {
    event.preventDefault(); // the form would send itself too
    if (!event.repeat) run();
  }
  if (key in ARROWS && !stage.divider.disabled && !inside(OWN_ARROWS)) {
    event.preventDefault();
    stage.move(ARROWS[/** @type {keyof typeof ARROWS} */ (key)]);
  }
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") takeFile(/** @type {DragEvent} */ (event).dataTransfer?.files[0]);
  });
}
runButton.disabled = false;
startFromAddress().catch(refuse);
