// The viewer: pictures of one image, all at the same zoom and position. A picture is decoded when it is shown, and let
// go after.

const MODES = [["side", "Side by side"], ["slider", "Slider"], ["flicker", "Flicker"], ["difference", "Difference"]];
const FIXED = { input: "input, enlarged", reference: "reference" };

/** Whether there is a picture of a cell, of any image. */
function viewable(key) {
  return Object.values(data.pictures).some((of) => Object.hasOwn(of, key));
}

// Data-id -> Blob URL, of the pictures on the page.
const urls = new Map();

function blobOf(id) {
  const text = atob(document.getElementById(`picture-${id}`).textContent);
  return new Blob([Uint8Array.from(text, (letter) => letter.charCodeAt(0))], { type: "image/webp" });
}

function urlOf(id) {
  if (!urls.has(id)) urls.set(id, URL.createObjectURL(blobOf(id)));
  return urls.get(id);
}

function viewer() {
  const images = data.images.filter((image) => Object.keys(data.pictures[image.name] ?? {}).length);
  if (!images.length) return drop("viewer");
  const stage = $("#stage");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  let image = images[0];
  let mode = "side";
  let pair = [0, 1]; // which of the chosen the slider and the difference show
  let divider = 0.5;
  let rate = 2;
  let gain = 4;
  let playing = !still;
  let timer = 0;
  let turn = 0; // of the flicker
  let built = 0; // counts what was shown, so that a late difference is not drawn
  const view = { zoom: 1, x: 0, y: 0 }; // zoom 1: the whole picture; x, y: the pixel in the middle of each pane

  const nameOf = (key) => FIXED[key] ?? cellOf.get(key).label;
  const signOf = (key) => (key in FIXED ? null : swatchOf(cellOf.get(key)));
  const idOf = (key) => data.pictures[image.name][key];
  const size = () => ({ width: image.shown[2], height: image.shown[3] });

  /** What is compared, in order: cells as they were chosen, the input, the reference; only what this image has. */
  function shown() {
    const cells = [...page.chosen].filter((key) => !(key in FIXED));
    return [...cells, ...Object.keys(FIXED).filter((key) => page.chosen.has(key))].filter((key) => idOf(key));
  }

  // ---- Zoom and position ----

  function fit() {
    const pane = $(".pane", stage);
    const { width, height } = size();
    return pane ? Math.min(pane.clientWidth / width, pane.clientHeight / height) : 1;
  }

  function move() {
    const pane = $(".pane", stage);
    if (!pane) return;
    const { width, height } = size();
    const base = fit();
    view.zoom = Math.min(Math.max(view.zoom, 1), 48 / base);
    const s = base * view.zoom;
    const [halfWidth, halfHeight] = [pane.clientWidth / 2, pane.clientHeight / 2];
    const keep = (at, length, half) =>
      half * 2 >= length * s ? length / 2 : Math.min(Math.max(at, half / s), length - half / s);
    view.x = keep(view.x, width, halfWidth);
    view.y = keep(view.y, height, halfHeight);
    const transform = `translate(${halfWidth - view.x * s}px, ${halfHeight - view.y * s}px) scale(${s})`;
    for (const picture of stage.querySelectorAll(".picture")) picture.style.transform = transform;
    stage.classList.toggle("crisp", s * devicePixelRatio > 1);
    $("#scale").textContent = `${Math.round(s * devicePixelRatio * 100)} %`;
  }

  /** Zoom so that the pixel under (px, py), from the pane's middle, stays there. */
  function zoom(factor, px = 0, py = 0) {
    const before = fit() * view.zoom;
    view.zoom = Math.min(Math.max(view.zoom * factor, 1), 48 / fit());
    const after = fit() * view.zoom;
    view.x += px / before - px / after;
    view.y += py / before - py / after;
    move();
  }

  function pan(dx, dy) {
    const s = fit() * view.zoom;
    view.x -= dx / s;
    view.y -= dy / s;
    move();
  }

  function reset() {
    Object.assign(view, { zoom: 1, x: size().width / 2, y: size().height / 2 });
    move();
  }

  // ---- Panes ----

  function layer(key) {
    const attributes = { src: urlOf(idOf(key)), alt: `${image.name}, ${nameOf(key)}`, draggable: "false", ...size() };
    return make("div", { class: "layer" }, make("img", { class: "picture", ...attributes }));
  }

  function pane(caption, ...content) {
    const { width, height } = size();
    const style = { aspectRatio: `${width} / ${height}`, maxWidth: `${(82 * width) / height}vh` };
    return make("figure", {}, make("div", { class: "pane", style }, ...content), make("figcaption", {}, ...caption));
  }

  /** The per-step previews of a cell, as one strip with the t of each below it. */
  function strip(key) {
    const found = data.strips[image.name]?.[key];
    if (!found) return null;
    const times = found.t.map((t) => number(t, 3));
    const style = { minWidth: `${times.length * 3.2}rem`, maxWidth: `${times.length * 9}rem` };
    const columns = { gridTemplateColumns: `repeat(${times.length}, 1fr)` };
    const label = `${nameOf(key)}: prediction at each step`;
    return make("div", { class: "strip", tabindex: "0", role: "group", "aria-label": label },
      make("div", { style },
        make("img", { src: urlOf(found.data), alt: `x0 at t = ${times.join(", ")}` }),
        make("div", { class: "times", style: columns }, times.map((t) => make("span", {}, t)))));
  }

  function side(keys) {
    return keys.map((key) => {
      const figure = pane([signOf(key), nameOf(key)], layer(key));
      figure.append(strip(key) ?? "");
      return figure;
    });
  }

  function slider([left, right]) {
    const [first, second] = [layer(left), layer(right)];
    const range = { "aria-valuemin": 0, "aria-valuemax": 100 };
    const handle = make("div", { class: "divider", role: "slider", tabindex: "0", "aria-label": "Divider", ...range });
    const put = (at) => {
      divider = Math.min(Math.max(at, 0), 1);
      second.style.clipPath = `inset(0 0 0 ${divider * 100}%)`;
      handle.style.left = `${divider * 100}%`;
      handle.setAttribute("aria-valuenow", Math.round(divider * 100));
    };
    fill(handle, {
      pointerdown: (event) => {
        event.stopPropagation();
        handle.setPointerCapture(event.pointerId);
      },
      pointermove: (event) => {
        if (!handle.hasPointerCapture(event.pointerId)) return;
        event.stopPropagation();
        const box = handle.parentElement.getBoundingClientRect();
        put((event.clientX - box.left) / box.width);
      },
      keydown: (event) => {
        const step = { ArrowLeft: -0.02, ArrowRight: 0.02 }[event.key];
        if (!step) return;
        event.preventDefault();
        event.stopPropagation(); // the arrow keys would move the pictures
        put(divider + step);
      },
    }, []);
    put(divider);
    return [pane([`${nameOf(left)}  |  ${nameOf(right)}`], first, second, handle)];
  }

  function flicker(keys) {
    const figure = pane([], ...keys.map(layer));
    figure.turn = (next) => {
      turn = next % keys.length;
      [...$(".pane", figure).children].forEach((child, index) => child.classList.toggle("under", index !== turn));
      $("figcaption", figure).replaceChildren(`${turn + 1} of ${keys.length}: ${nameOf(keys[turn])}`);
    };
    figure.turn(0);
    return [figure];
  }

  /** |a - b| times the gain, computed from the pixels of both. */
  function difference(keys) {
    const { width, height } = size();
    const [left, right] = keys.map(nameOf);
    const label = `Difference of ${left} and ${right}`;
    const canvas = make("canvas", { class: "picture", width, height, role: "img", "aria-label": label });
    const figure = pane([label], make("div", { class: "layer" }, canvas));
    const now = built;
    const read = async (key) => {
      const paper = new OffscreenCanvas(width, height).getContext("2d");
      paper.drawImage(await createImageBitmap(blobOf(idOf(key))), 0, 0, width, height);
      return paper.getImageData(0, 0, width, height).data;
    };
    Promise.all(keys.map(read)).then(([a, b]) => {
      if (now !== built) return;
      const context = canvas.getContext("2d");
      const result = context.createImageData(width, height);
      figure.amplify = () => {
        let sum = 0;
        for (let i = 0; i < a.length; i++) {
          const distance = Math.abs(a[i] - b[i]);
          sum += distance;
          result.data[i] = i % 4 === 3 ? 255 : distance * gain; // clamped by its type
        }
        context.putImageData(result, 0, 0);
        canvas.dataset.gain = gain;
        const mean = number(sum / (width * height * 3));
        $("figcaption", figure).textContent = `|${left} − ${right}| × ${gain}, mean ${mean} of 255`;
      };
      figure.amplify();
    });
    return [figure];
  }

  // ---- Putting it together ----

  function build() {
    built += 1;
    const keys = shown();
    const enough = keys.length >= (mode === "side" ? 1 : 2);
    const two = pair.map((index) => keys[Math.min(index, keys.length - 1)]);
    const used = !enough ? [] : mode === "slider" || mode === "difference" ? two : keys;
    const ids = new Set(used.flatMap((key) => [idOf(key), data.strips[image.name]?.[key]?.data]));
    const old = [...urls].filter(([id]) => !ids.has(id));
    const advice = `Choose ${mode === "side" ? "a picture" : "two pictures"} here or in the table.`;
    const figures = enough ? { side, slider, flicker, difference }[mode](used) : [make("p", { class: "note" }, advice)];
    stage.replaceChildren(...figures);
    stage.dataset.mode = mode;
    const stripped = mode === "side" ? [] : used.filter((key) => data.strips[image.name]?.[key]);
    $("#strips").replaceChildren(
      ...stripped.map((key) => make("figure", {}, make("figcaption", {}, nameOf(key)), strip(key))));
    for (const [id, url] of old) {
      urls.delete(id);
      URL.revokeObjectURL(url);
    }
    const [x, y, width, height] = image.shown;
    $("#part").hidden = width >= image.width && height >= image.height;
    $("#part").textContent = `Shown are ${width} × ${height} of the ${image.width} × ${image.height} pixels, from ` +
      `(${x}, ${y}). The whole pictures are in the folder “pictures” beside this file.`;
    controls(keys);
    play();
    move();
  }

  function play() {
    clearInterval(timer);
    if (mode === "flicker" && playing) timer = setInterval(() => stage.firstElementChild.turn?.(turn + 1), 1000 / rate);
  }

  /** A slider of the controls, with its value in words beside it. */
  function ranged(label, { words, change, ...attributes }) {
    const text = make("output", {}, words(attributes.value));
    const input = make("input", { type: "range", ...attributes, input: () => {
      text.textContent = words(input.value);
      change(Number(input.value));
    } });
    return [make("label", {}, label, input), text];
  }

  function controls(keys) {
    const chips = keys.map((key) => {
      const remove = { type: "button", "aria-label": `Remove ${nameOf(key)}`, click: () => choose(key, false) };
      return make("span", { class: "chip" }, signOf(key), nameOf(key), make("button", remove, "×"));
    });
    const others = Object.keys(data.pictures[image.name])
      .filter((key) => !page.chosen.has(key) && (key in FIXED || cellOf.has(key)));
    const add = make("select", { "aria-label": "Add a picture", change: () => choose(add.value, true) });
    options(add, [["", "add a picture …"], ...others.map((key) => [key, nameOf(key)])]);
    $("#chosen").replaceChildren(...chips, ...(others.length ? [add] : []));

    const parts = [];
    if ((mode === "slider" || mode === "difference") && keys.length > 2) {
      for (const which of [0, 1]) {
        const select = make("select", { change: () => {
          pair[which] = Number(select.value);
          build();
        } });
        options(select, keys.map((key, index) => [index, nameOf(key)]));
        select.value = Math.min(pair[which], keys.length - 1);
        parts.push(make("label", {}, which ? "and" : "Compare", select));
      }
    }
    if (mode === "flicker") {
      const button = make("button", { type: "button", click: () => {
        playing = !playing;
        button.textContent = playing ? "Pause" : "Play";
        play();
      } }, playing ? "Pause" : "Play");
      const change = (value) => {
        rate = value;
        play();
      };
      const words = (value) => `${value} a second`;
      parts.push(button, ...ranged("Rate", { min: 0.5, max: 6, step: 0.5, value: rate, words, change }));
    }
    if (mode === "difference") {
      const change = (value) => {
        gain = value;
        stage.firstElementChild.amplify?.();
      };
      parts.push(...ranged("Amplified", { min: 1, max: 16, step: 1, value: gain, words: (v) => `× ${v}`, change }));
    }
    $("#options").replaceChildren(...parts);
  }

  function setMode(next) {
    mode = next;
    $(`#mode input[value=${mode}]`).checked = true;
    build();
  }

  function setImage(index) {
    image = images[(index + images.length) % images.length];
    $("#image").value = images.indexOf(image);
    reset();
    build();
  }

  // ---- Hands: wheel, pointers, keys ----

  stage.addEventListener("wheel", (event) => {
    const at = event.target.closest(".pane")?.getBoundingClientRect();
    if (!at) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), // with ctrl: a pinch on a touchpad
      event.clientX - at.left - at.width / 2, event.clientY - at.top - at.height / 2);
  }, { passive: false });
  stage.addEventListener("dblclick", (event) => { if (event.target.closest(".pane")) reset(); });

  const fingers = new Map();
  stage.addEventListener("pointerdown", (event) => {
    const at = event.target.closest(".pane");
    if (!at || event.button) return;
    at.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const before = [...fingers.values()];
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    const after = [...fingers.values()];
    const middle = (points, axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length;
    pan(middle(after, 0) - middle(before, 0), middle(after, 1) - middle(before, 1));
    if (after.length === 2) {
      const apart = ([a, b]) => Math.max(Math.hypot(a[0] - b[0], a[1] - b[1]), 1);
      const at = event.target.closest(".pane").getBoundingClientRect();
      const [x, y] = [middle(after, 0) - at.left - at.width / 2, middle(after, 1) - at.top - at.height / 2];
      zoom(apart(after) / apart(before), x, y);
    }
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }

  const step = 60;
  const actions = {
    ArrowLeft: () => pan(step, 0), ArrowRight: () => pan(-step, 0),
    ArrowUp: () => pan(0, step), ArrowDown: () => pan(0, -step),
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: reset,
    "[": () => setImage(images.indexOf(image) - 1), "]": () => setImage(images.indexOf(image) + 1),
    ...Object.fromEntries(MODES.map(([name], index) => [index + 1, () => setMode(name)])),
  };
  let held = false; // space, while it shows the next picture
  $("#viewer").addEventListener("keydown", (event) => {
    if (event.target.matches("select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input") && event.key.startsWith("Arrow")) return;
    if (event.key === " " && mode === "flicker" && !event.target.matches("button, input:not([type=radio])")) {
      event.preventDefault();
      if (held) return;
      held = true;
      clearInterval(timer);
      stage.firstElementChild.turn?.(turn + 1);
    } else if (event.key in actions) {
      event.preventDefault();
      actions[event.key]();
    }
  });
  $("#viewer").addEventListener("keyup", (event) => {
    if (event.key !== " " || !held) return;
    held = false;
    stage.firstElementChild.turn?.(turn + shown().length - 1);
    play();
  });

  options($("#image"), images.map(({ name }, index) => [index, name]));
  $("#image").addEventListener("change", (event) => setImage(Number(event.target.value)));
  segments($("#mode"), "mode", MODES, mode, setMode);
  $("#zoom").append(
    make("button", { type: "button", "aria-label": "Zoom out", click: () => zoom(0.8) }, "−"),
    make("button", { type: "button", "aria-label": "Zoom in", click: () => zoom(1.25) }, "+"),
    make("button", { type: "button", click: reset }, "Whole"));

  // At first: the preset, the best cell, and the truth where it is known.
  const measure = page.measure && directed(page.measure) ? page.measure : null;
  const worth = (cell) => (measure.better === "higher" ? 1 : -1) * (cell.results[measure.name]?.mean ?? NaN);
  const measurable = measure ? data.cells.filter((cell) => viewable(cell.id) && finite(worth(cell))) : [];
  const [best] = measurable.sort((a, b) => worth(b) - worth(a));
  for (const key of [preset?.id, best?.id, "reference"]) if (viewable(key)) page.chosen.add(key);
  page.dispatchEvent(new Event("chosen"));

  // Nothing is decoded before the viewer comes near, and the pictures are there: they stand after this script.
  const observer = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    observer.disconnect();
    page.addEventListener("chosen", build);
    setImage(0);
    new ResizeObserver(move).observe(stage);
  }, { rootMargin: "300px" });
  document.addEventListener("DOMContentLoaded", () => observer.observe($("#viewer")));
}

viewer();
contents(); // the sections that stay are known now
