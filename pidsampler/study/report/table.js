// The tables of all cells, and of single images. Rows are made once; sorting moves them, a filter hides them. Each row is
// a grid of its own whose widths are known beforehand, so that a browser lays out the rows in view and no others.

const listed = [...data.cells, ...(data.baseline ? [data.baseline] : [])];
const rows = new Map(); // id of a cell, or of what it is compared with -> its row in the first table
const longestOf = (texts) => texts.reduce((found, text) => (text.length > found.length ? text : found), "");

/** Bring a cell's row into the table's view, and mark it. */
function showRow(id) {
  for (const [other, row] of rows) row.classList.toggle("current", other === id);
  const scroll = $("#cells .scroll");
  scroll.scrollTop = rows.get(id).offsetTop - scroll.clientHeight / 2;
}

/** A measure's mean, and half its interval where it has one, as the table writes them. */
function meanAndHalf({ mean, low, high }, { digits }) {
  return [number(mean, digits), finite(low) && low !== high ? ` ± ${number((high - low) / 2, digits)}` : ""];
}

/** How the runs of a cell failed, in a few words. */
const failure = (cell) => (cell.failed < cell.runs ? `${cell.failed} of ${cell.runs} failed` : "failed");

/** The columns: { name, number, value(cell), write(cell) -> [{ kind }, ...children], longest, unit, source }. */
function tableColumns() {
  const settings = data.axes.map(({ name, values }, index) => {
    const isNumber = values.every(numeric);
    const value = ({ settings }) => (isNumber && name in settings ? Number(settings[name]) : settings[name] ?? null);
    const write = ({ settings, label }) => [{}, settings[name] ?? (index ? "–" : label)];
    return { name, number: isNumber, value, write, longest: longestOf(values) };
  });
  if (!settings.length) {
    const write = ({ label }) => [{}, label];
    const longest = longestOf(listed.map((cell) => cell.label));
    settings.push({ name: "cell", number: false, value: (cell) => cell.label, write, longest });
  }
  // The first column, which stays in view, also tells what kind of cell it is.
  const [first] = settings;
  const { write } = first;
  const tags = (cell) => [
    ...(cell.preset ? [["preset", null]] : []),
    ...(cell === data.baseline ? [["no sampler", null]] : []),
    ...(cell.bias ? [["biased", cell.bias]] : []),
    ...(cell.elsewhere ? [["of another model", cell.elsewhere]] : []),
    ...(cell.error === null ? [] : [[failure(cell), cell.error]]),
  ];
  const tag = ([text, title]) => make("span", { class: "tag", title }, text);
  first.write = (cell) => [...write(cell), ...tags(cell).map(tag)];
  first.longest += longestOf(listed.map((cell) => tags(cell).map(([text]) => `${text}.....`).join("")));

  const results = measured.map((measure) => {
    const { name, unit, source } = measure;
    const write = (cell) => {
      const result = cell.results[name];
      if (!finite(result?.mean)) return [{}, "–"];
      const kind = verdict(measure, result);
      const [mean, half] = meanAndHalf(result, measure);
      const p = result.difference?.p;
      const words = WORDS[kind] + (finite(p) ? `, ${probability(p)}` : "");
      const sign = kind ? make("span", { class: "sign", role: "img", "aria-label": words }, SIGNS[kind]) : null;
      return [{ kind }, sign, mean, half ? make("small", {}, half) : null];
    };
    const known = listed.map((cell) => cell.results[name]).filter((result) => finite(result?.mean));
    const texts = known.map((result) => meanAndHalf(result, measure).join(""));
    const value = (cell) => cell.results[name]?.mean ?? null;
    return { name, unit, source, measure, number: true, value, write, longest: longestOf(texts) };
  });
  return [...settings, ...results];
}

/**
 * Fill a table, in a box that scrolls, with a row for each cell. `lead` makes what stands before the columns of a row.
 * Returns its rows and headers, and what lays the columns out when some were hidden or shown.
 */
function sheet(scroll, cells, columns, lead = null) {
  const table = $("table", scroll);
  const body = make("tbody", { role: "rowgroup" });
  const made = cells.map((cell) => {
    const parts = columns.map((column, index) => {
      const [{ kind }, ...children] = column.write(cell);
      const name = `${column.number ? "number" : ""} ${kind ?? ""}`;
      if (index) return make("td", { role: "cell", class: name }, ...children);
      const sign = axis0 && cell !== data.baseline ? swatchOf(cell) : null;
      return make("th", { role: "rowheader", class: `${name} first` }, sign, ...children);
    });
    const first = lead && make("td", { role: "cell" }, lead(cell));
    const row = make("tr", { role: "row", class: cell.preset ? "preset" : null }, first, parts);
    return Object.assign(row, { cell });
  });
  body.append(...made);
  table.classList.toggle("long", made.length > 100);
  scroll.style.setProperty("--rows", made.length + 1);

  const collator = new Intl.Collator(undefined, { numeric: true });
  let sorted = null;
  let rising = true;

  function sort(column) {
    rising = sorted === column ? !rising : true;
    sorted = column;
    const compare = column.number ? (a, b) => a - b : collator.compare;
    const order = made.map((row) => [row, column.value(row.cell)]).sort(([, a], [, b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what is not known comes last, either way
      return rising ? compare(a, b) : compare(b, a);
    });
    body.append(...order.map(([row]) => row));
    for (const header of headers) header.removeAttribute("aria-sort");
    headers[columns.indexOf(column)].setAttribute("aria-sort", rising ? "ascending" : "descending");
    table.dispatchEvent(new Event("sorted"));
  }

  const headers = columns.map((column, index) => {
    const unit = column.unit ? make("small", {}, ` ${column.unit}`) : null;
    const button = make("button", { type: "button", click: () => sort(column) }, column.name, unit);
    const name = `${column.number ? "number" : ""} ${index ? "" : "first"}`;
    return make("th", { role: "columnheader", class: name, title: column.source }, button);
  });
  const corner = lead && make("th", { role: "columnheader" }, make("span", { class: "unseen" }, "in the viewer"));
  const head = make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, corner, headers));
  table.replaceChildren(head, body);

  /** The width of a column in the table's em, by its longest text, which with tabular figures is the widest. */
  const widths = columns.map((column, index) => {
    const sign = index === 0 || column.measure ? 16 : 0;
    const [body, header] = [textWidth(column.longest) + sign, textWidth(`${column.name} ${column.unit ?? ""} ↕`)];
    return Math.min(Math.max(body, header) / 12 + 1.8, 30);
  });

  function layOut() {
    const [first, ...others] = widths.filter((_, index) => !headers[index].hidden);
    const least = `min(${first}em, 42vw)`; // it stays in view, and leaves room for others on a phone
    const all = [...(lead ? ["2.6em"] : []), `minmax(${least}, ${first}fr)`,
      ...others.map((width) => `minmax(${width}em, ${width}fr)`)];
    table.style.setProperty("--columns", all.join(" "));
    table.style.minWidth = `calc(${least} + ${others.reduce((sum, width) => sum + width, lead ? 2.6 : 0)}em)`;
  }

  layOut();
  return { made, headers, layOut };
}

function cellTable() {
  const columns = tableColumns();
  const table = $("#cells table");
  const pictures = listed.some((cell) => viewable(cell.id));
  const before = pictures ? 1 : 0; // cells of a row before those of the columns
  const box = (cell) => make("input", {
    type: "checkbox", "aria-label": `${cell.label} in the viewer`, disabled: !viewable(cell.id), tabindex: -1,
    change: (event) => choose(cell.id, event.target.checked),
  });
  const { made, headers, layOut } = sheet($("#cells .scroll"), listed, columns, pictures ? box : null);
  const body = $("tbody", table);
  for (const row of made) {
    const { cell } = row;
    row.words = [cell.label, ...Object.entries(cell.settings).flat(), cell.error ?? ""].join(" ").toLowerCase();
    rows.set(cell.id, row);
  }

  // One listener for all: what there is to say about a number is put together when it is asked for.
  body.addEventListener("pointerover", (event) => {
    const at = event.target.closest("td");
    const measure = at && columns[at.cellIndex - before]?.measure;
    if (measure) showTip(at, at.parentElement.cell.label, account(at.parentElement.cell, measure));
    else hideTip();
  });
  body.addEventListener("pointerleave", hideTip);

  // Of the boxes, Tab reaches one, and the arrow keys those of the rows above and below.
  const boxes = () => [...body.querySelectorAll("tr:not([hidden]) input:enabled")];
  function reach(box) {
    for (const other of body.querySelectorAll("input[tabindex='0']")) other.tabIndex = -1;
    if (box) box.tabIndex = 0;
  }
  body.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = boxes();
    const next = all[all.indexOf(event.target) + step];
    reach(next ?? event.target);
    next?.focus();
  });

  table.addEventListener("sorted", () => reach(boxes()[0]));

  // ---- Filters ----

  const filters = []; // [axis, its select]
  function filter() {
    const words = $("#filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = filters.filter(([, select]) => select.value !== "");
    const wanted = chosen.map(([axis, select]) => [axis.name, axis.values[select.value]]);
    let count = 0;
    for (const row of made.filter(({ cell }) => cell !== data.baseline)) { // which stays, to compare with
      const kept = words.every((word) => row.words.includes(word)) &&
        wanted.every(([name, value]) => row.cell.settings[name] === value);
      row.hidden = !kept;
      count += kept;
    }
    reach(boxes()[0]);
    $("#count").textContent = 
      count === data.cells.length ? `${count} cells` : `${count} of ${data.cells.length} cells`;
  }

  for (const axis of data.axes.filter(({ values }) => values.length > 1)) {
    const pairs = [["", "all"], ...axis.values.map((value, index) => [index, value])];
    const select = options(make("select", { change: filter }), pairs);
    filters.push([axis, select]);
    $("#axis-filters").append(make("label", {}, axis.name, select));
  }
  $("#filter").addEventListener("input", filter);
  filter();

  // ---- Columns ----

  columns.slice(1).forEach((column, index) => {
    const change = (event) => {
      headers[index + 1].hidden = !event.target.checked;
      for (const row of rows.values()) row.cells[index + 1 + before].hidden = !event.target.checked;
      layOut();
    };
    const box = make("input", { type: "checkbox", checked: true, change });
    $("#columns div").append(make("label", {}, box, column.name));
  });
  page.addEventListener("chosen", () => {
    for (const [id, row] of rows) {
      row.classList.toggle("chosen", page.chosen.has(id));
      if (pictures) $("input", row).checked = page.chosen.has(id);
    }
  });

  const failed = data.cells.filter((cell) => cell.error !== null);
  if (failed.length) {
    const title = failed.length === 1 ? "One cell with failures" : `${failed.length} cells with failures`;
    const list = failed.map((cell) => [`${cell.label} (${cell.failed} of ${cell.runs} runs)`, cell.error]);
    $("#failures").append(make("h3", {}, title), make("dl", {}, terms(list)));
  }
  const gaps = data.problems.filter((line) => line.startsWith("measure "));
  if (gaps.length) {
    const list = gaps.map((line) => make("li", {}, line));
    $("#failures").append(make("h3", {}, "What was not measured"), make("ul", {}, list));
  }
  $("#cells .controls").append(
    saveButton("CSV", () => ["cells.csv", "text/csv", csv(cellRows())]),
    saveButton("TeX", () => ["table.tex", "application/x-tex", data.tex]));
}

/** The table of all cells as rows for a file: every number in full. */
function cellRows() {
  const parts = (result) => {
    const { mean, low, high, n, difference } = result ?? {};
    return [mean, low, high, n, difference?.mean, difference?.low, difference?.high, difference?.p];
  };
  const names = ["", " low", " high", " runs", " gain", " gain low", " gain high", " p"];
  const axes = data.axes.map(({ name }) => name);
  const header = ["cell", ...axes, ...measured.flatMap(({ name }) => names.map((part) => name + part))];
  return [header, ...listed.map((cell) => [cell.label, ...axes.map((name) => cell.settings[name]),
    ...measured.flatMap(({ name }) => parts(cell.results[name]))])];
}

/** A measure of each image by itself: a row for each cell, a column for each image. */
function imageTable() {
  if (!data.by_image || !page.measure) return drop("by-image");
  const { images, values } = data.by_image;
  const of = (cell) => values[page.measure.name]?.[cell.id];

  function render() {
    const { better, digits } = page.measure;
    const cells = listed.filter(of);
    const loss = { higher: (x) => -x, lower: (x) => x, zero: Math.abs }[better] ?? (() => NaN);
    const first = { name: "cell", number: false, value: ({ label }) => label, longest: longestOf(cells.map((c) => c.label)) };
    first.write = (cell) => [{}, cell.label, cell === data.baseline ? make("span", { class: "tag" }, "no sampler") : null];
    const columns = images.map((name, index) => {
      const value = (cell) => of(cell)[index];
      const known = data.cells.filter(of).map(value).filter(finite);
      const least = Math.min(...known.map(loss));
      const best = (cell) => cell !== data.baseline && finite(value(cell)) && loss(value(cell)) === least;
      const write = (cell) => [{ kind: best(cell) ? "best" : null }, number(value(cell) ?? NaN, digits)];
      return { name, number: true, value, write, longest: longestOf(known.map((x) => number(x, digits))) };
    });
    sheet($("#by-image .scroll"), cells, [first, ...columns]);
  }

  const rowsOf = () => [["cell", ...images], ...listed.filter(of).map((cell) => [cell.label, ...of(cell)])];
  $("#by-image .controls").append(
    saveButton("CSV", () => [`by-image-${page.measure.name}.csv`, "text/csv", csv(rowsOf())]));
  page.addEventListener("measure", render);
  render();
}

cellTable();
imageTable();
