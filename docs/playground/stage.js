/** @file What is seen: two pictures with a divider between them, and a strip of the steps below. */

/**
 * @typedef {import("./pixels.js").Picture} Picture
 * @typedef {0 | 1} Side 0 is left of the divider, 1 right of it
 */

/**
 * @param {HTMLCanvasElement} canvas
 * @param {Picture} picture
 */
function draw(canvas, { data, width, height }) {
  canvas.width = width;
  canvas.height = height;
  const pixels = new ImageData(/** @type {ImageDataArray} */ (data), width, height);
  canvas.getContext("2d")?.putImageData(pixels, 0, 0);
}

/** The pictures of a run. */
export class Stage {
  /** @param {HTMLElement} element */
  constructor(element) {
    const find = (/** @type {string} */ selector) => /** @type {HTMLElement} */ (element.querySelector(selector));
    this.frame = find(".frame");
    this.canvases = /** @type {HTMLCanvasElement[]} */ ([...element.querySelectorAll("canvas")]);
    this.labels = /** @type {HTMLElement[]} */ ([...element.querySelectorAll(".label")]);
    this.divider = /** @type {HTMLInputElement} */ (find("input[type=range]"));
    this.strip = find(".strip");
    this.divider.addEventListener("input", () => this.frame.style.setProperty("--at", `${this.divider.value}%`));
  }

  /**
   * Show a photo on both sides, and no steps.
   * @param {Picture} picture
   */
  reset(picture) {
    this.strip.replaceChildren();
    this.frame.style.setProperty("--ratio", String(picture.width / picture.height));
    for (const side of /** @type {Side[]} */ ([0, 1])) this.show(side, picture, "input");
    this.divide(false);
  }

  /**
   * Show or hide the divider.
   * @param {boolean} shown
   */
  divide(shown) {
    this.divider.disabled = !shown;
    this.frame.classList.toggle("divided", shown);
  }

  /**
   * Move the divider.
   * @param {number} steps to the right
   */
  move(steps) {
    this.divider.stepUp(steps);
    this.divider.dispatchEvent(new Event("input"));
  }

  /**
   * Show a picture on a side.
   * @param {Side} side
   * @param {Picture} picture
   * @param {string} label
   */
  show(side, picture, label) {
    draw(this.canvases[side], picture);
    this.canvases[side].setAttribute("aria-label", label);
    this.labels[side].textContent = label;
  }

  /**
   * Add a sampler's row to the strip.
   * @param {string} name
   * @returns {HTMLElement}
   */
  addRow(name) {
    const row = document.createElement("div");
    row.setAttribute("role", "group");
    row.setAttribute("aria-label", `Steps of ${name}`);
    this.strip.append(row);
    return row;
  }

  /**
   * Add a step to a row, whose picture is shown when it is pressed.
   * @param {HTMLElement} row
   * @param {Side} side
   * @param {Picture} picture
   * @param {{caption: string, title: string, label: string}} words
   */
  addStep(row, side, picture, { caption, title, label }) {
    const step = document.createElement("button");
    step.type = "button";
    step.title = title;
    step.setAttribute("aria-label", title);
    const canvas = document.createElement("canvas");
    draw(canvas, picture);
    step.append(canvas, caption);
    step.addEventListener("click", () => {
      this.press(step);
      this.show(side, picture, label);
    });
    row.append(step);
    this.press(step);
    this.show(side, picture, label);
    row.scrollLeft = row.scrollWidth;
  }

  /** @param {HTMLElement} step */
  press(step) {
    for (const other of step.parentElement?.children ?? []) other.setAttribute("aria-pressed", String(other === step));
  }
}
