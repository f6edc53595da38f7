/** @file The form of one sampler: what can be chosen is what tables.json holds. */

/**
 * @typedef {{version: string, tile: {size: number, overlap: number}, lists: string[], steps: number[], etas: number[],
 *   examples: string[], models: Record<string, import("./model.js").Facts>,
 *   schedulers: Record<string, {eta: boolean, source: string}>, tables: Record<string, import("./table.js").Row[]>}} Catalogue
 * @typedef {{scheduler: string, list: string, steps: number, eta: number}} Choice
 */

/** The names of a sampler's choices, in the form and in the page's address. */
export const CHOICES = ["scheduler", "list", "eta", "steps"];

/**
 * Return the name of a table in tables.json: a spec, or MODEL/NAME of a learnt one.
 * @param {Catalogue} catalogue
 * @param {string} model
 * @param {Choice} choice
 */
export function tableName(catalogue, model, { scheduler, list, steps, eta }) {
  if (!(scheduler in catalogue.schedulers)) return `${model}/${scheduler}`;
  return `${scheduler}${catalogue.schedulers[scheduler].eta ? `(eta=${eta})` : ""}@${list}:${steps}`;
}

/**
 * Put options into a list.
 * @param {HTMLElement} parent
 * @param {(string | number)[]} values
 */
export function addOptions(parent, values) {
  parent.append(...values.map((value) => new Option(String(value))));
}

/**
 * Choose a value of a list; a number may be written in another way.
 * @param {HTMLSelectElement} select
 * @param {string} value
 * @param {string} name for messages
 */
export function choose(select, value, name = select.name) {
  const options = [...select.options].filter((option) => !option.disabled);
  const same = (/** @type {string} */ known) => known === value || (value !== "" && Number(known) === Number(value));
  const found = options.find((option) => same(option.value));
  if (!found) {
    const known = options.map((option) => option.value);
    throw new Error(`${name}=${value} cannot be had here: choose ${known.join(", ")}.`);
  }
  select.value = found.value;
}

/** The lists of one sampler. */
export class SamplerForm {
  /**
   * @param {HTMLElement} parent filled from the page's template
   * @param {Catalogue} catalogue
   * @param {string} legend
   * @param {() => void} onChange
   */
  constructor(parent, catalogue, legend, onChange) {
    const template = /** @type {HTMLTemplateElement} */ (document.getElementById("sampler"));
    parent.append(template.content.cloneNode(true));
    this.catalogue = catalogue;
    this.model = "";
    /** @type {Record<string, HTMLSelectElement>} */
    this.lists = {};
    for (const select of parent.querySelectorAll("select")) this.lists[select.name] = select;
    /** @type {HTMLElement} */ (parent.querySelector("legend")).textContent = legend;
    this.source = /** @type {HTMLElement} */ (parent.querySelector(".source"));
    addOptions(this.lists.list, catalogue.lists);
    addOptions(this.lists.eta, catalogue.etas);
    addOptions(this.lists.steps, catalogue.steps);
    this.lists.eta.value = "1";
    this.lists.steps.value = "4";
    parent.addEventListener("change", () => {
      this.refresh();
      onChange();
    });
  }

  /** @param {string} model whose learnt tables can be chosen too */
  setModel(model) {
    const { scheduler } = this.lists;
    const before = scheduler.value;
    this.model = model;
    scheduler.replaceChildren();
    addOptions(scheduler, Object.keys(this.catalogue.schedulers));
    const { tables } = this.catalogue.models[model];
    if (tables.length > 0) {
      const group = document.createElement("optgroup");
      group.label = `learnt for ${model}`;
      addOptions(group, tables);
      scheduler.append(group);
    }
    if ([...scheduler.options].some((option) => option.value === before)) scheduler.value = before;
    this.refresh();
  }

  /** @returns {Choice} */
  get choice() {
    const { scheduler, list, steps, eta } = this.lists;
    return { scheduler: scheduler.value, list: list.value, steps: Number(steps.value), eta: Number(eta.value) };
  }

  /** The name of the table that is chosen. */
  get table() {
    return tableName(this.catalogue, this.model, this.choice);
  }

  /** The option `--scheduler` of the command that does the same. */
  get spec() {
    return this.choice.scheduler in this.catalogue.schedulers ? this.table : `@${this.choice.scheduler}`;
  }

  /** Disable what there is no table of. */
  refresh() {
    const { scheduler, list, steps, eta } = this.lists;
    const info = this.catalogue.schedulers[scheduler.value];
    list.disabled = steps.disabled = !info;
    eta.disabled = !info?.eta;
    this.source.textContent = info?.source ?? "fitted to this model by pidsampler learn";
    if (!info) return;
    for (const option of steps.options) {
      const name = tableName(this.catalogue, this.model, { ...this.choice, steps: Number(option.value) });
      option.disabled = !(name in this.catalogue.tables);
    }
    if (!steps.selectedOptions[0]?.disabled) return;
    const wanted = Number(steps.value);
    const near = [...steps.options].filter((option) => !option.disabled).map((option) => Number(option.value));
    steps.value = String(near.sort((a, b) => Math.abs(a - wanted) - Math.abs(b - wanted))[0]);
  }

  /**
   * Choose what the page's address asks for.
   * @param {URLSearchParams} address
   * @param {string} suffix of the names
   */
  read(address, suffix = "") {
    for (const name of CHOICES) {
      const value = address.get(name + suffix);
      if (value === null) continue;
      if (this.lists[name].disabled) {
        throw new Error(`${name + suffix}=${value} cannot be had with ${this.choice.scheduler}: leave it out.`);
      }
      choose(this.lists[name], value, name + suffix);
      this.refresh();
    }
  }

  /**
   * Say in the page's address what is chosen.
   * @param {URLSearchParams} address
   * @param {string} suffix of the names
   */
  write(address, suffix = "") {
    for (const name of CHOICES) {
      if (!this.lists[name].disabled) address.set(name + suffix, this.lists[name].value);
    }
  }
}
