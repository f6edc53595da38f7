// The table of all cells. Rows are made once; sorting moves them, a filter hides them. Each row is a grid of its own
// whose widths are known beforehand, so that a browser lays out the rows in view and no others.

const rows = new Map(); // id of a cell -> its row

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
  const longest = (texts) => texts.reduce((found, text) => (text.length > found.length ? text : found), "");

  const settings = data.axes.map(({ name, values }) => {
    const isNumber = values.every(numeric);
    const value = ({ settings }) => (isNumber && name in settings ? Number(settings[name]) : settings[name] ?? null);
    const write = ({ settings }) => [{}, settings[name] ?? "–"];
    return { name, number: isNumber, value, write, longest: longest(values) };
  });
  if (!settings.length) {
    const write = ({ label }) => [{}, label];
    const labels = data.cells.map((cell) => cell.label);
    settings.push({ name: "cell", number: false, value: (cell) => cell.label, write, longest: longest(labels) });
  }
  // The first column, which stays in view, also tells what kind of cell it is.
  const [first] = settings;
  const { write } = first;
  const tags = (cell) => [
    ...(cell.preset ? [["preset", null]] : []),
    ...(cell.bias ? [["biased", cell.bias]] : []),
    ...(cell.error === null ? [] : [[failure(cell), cell.error]]),
  ];
  const tag = ([text, title]) => make("span", { class: "tag", title }, text);
  first.write = (cell) => [...write(cell), ...tags(cell).map(tag)];
  first.longest += longest(data.cells.map((cell) => tags(cell).map(([text]) => `${text}.....`).join("")));

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
    const known = data.cells.map((cell) => cell.results[name]).filter((result) => finite(result?.mean));
    const texts = known.map((result) => meanAndHalf(result, measure).join(""));
    const value = (cell) => cell.results[name]?.mean ?? null;
    return { name, unit, source, measure, number: true, value, write, longest: longest(texts) };
  });
  return [...settings, ...results];
}

function cellTable() {
  const columns = tableColumns();
  const table = $("#cells table");
  const body = $("tbody", table);
  const pictures = data.cells.some((cell) => viewable(cell.id));
  const before = pictures ? 1 : 0; // cells of a row before those of the columns

  for (const cell of data.cells) {
    const box = pictures && make("td", { role: "cell" }, make("input", {
      type: "checkbox", "aria-label": `${cell.label} in the viewer`, disabled: !viewable(cell.id), tabindex: -1,
      change: (event) => choose(cell.id, event.target.checked),
    }));
    const cells = columns.map((column, index) => {
      const [{ kind }, ...children] = column.write(cell);
      const name = `${column.number ? "number" : ""} ${kind ?? ""}`;
      if (index) return make("td", { role: "cell", class: name }, ...children);
      return make("th", { role: "rowheader", class: name }, axis0 ? swatchOf(cell) : null, ...children);
    });
    const row = make("tr", { role: "row", class: cell.preset ? "preset" : null }, box || null, cells);
    row.words = [cell.label, ...Object.entries(cell.settings).flat(), cell.error ?? ""].join(" ").toLowerCase();
    row.cell = cell;
    rows.set(cell.id, row);
  }
  body.append(...rows.values());
  table.classList.toggle("long", rows.size > 100);

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

  // ---- Sorting ----

  const collator = new Intl.Collator(undefined, { numeric: true });
  let sorted = null;
  let rising = true;

  function sort(column) {
    rising = sorted === column ? !rising : true;
    sorted = column;
    const compare = column.number ? (a, b) => a - b : collator.compare;
    const order = [...rows.values()].map((row) => [row, column.value(row.cell)]).sort(([, a], [, b]) => {
      if (a === null || b === null) return (a === null) - (b === null); // what is not known comes last, either way
      return rising ? compare(a, b) : compare(b, a);
    });
    body.append(...order.map(([row]) => row));
    reach(boxes()[0]);
    for (const header of headers) header.removeAttribute("aria-sort");
    headers[columns.indexOf(column)].setAttribute("aria-sort", rising ? "ascending" : "descending");
  }

  const headers = columns.map((column) => {
    const unit = column.unit ? make("small", {}, ` ${column.unit}`) : null;
    const button = make("button", { type: "button", click: () => sort(column) }, column.name, unit);
    return make("th", { role: "columnheader", class: column.number ? "number" : null, title: column.source }, button);
  });
  const corner = pictures && make("th", { role: "columnheader" }, make("span", { class: "unseen" }, "in the viewer"));
  $("thead", table).append(make("tr", { role: "row" }, corner || null, headers));

  // ---- Filters ----

  const filters = []; // [axis, its select]
  function filter() {
    const words = $("#filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = filters.filter(([, select]) => select.value !== "");
    const wanted = chosen.map(([axis, select]) => [axis.name, axis.values[select.value]]);
    let count = 0;
    for (const row of rows.values()) {
      const kept = words.every((word) => row.words.includes(word)) &&
        wanted.every(([name, value]) => row.cell.settings[name] === value);
      row.hidden = !kept;
      count += kept;
    }
    reach(boxes()[0]);
    $("#count").textContent = count === rows.size ? `${count} cells` : `${count} of ${rows.size} cells`;
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

  /** The width of a column in the table's em, by its longest text, which with tabular figures is the widest. */
  const widths = columns.map((column, index) => {
    const sign = index === 0 || column.measure ? 16 : 0;
    const [body, header] = [textWidth(column.longest) + sign, textWidth(`${column.name} ${column.unit ?? ""} ↕`)];
    return Math.min(Math.max(body, header) / 12 + 1.8, 30);
  });

  function layOut() {
    const kept = [...(pictures ? [2.6] : []), ...widths.filter((_, index) => !headers[index].hidden)];
    table.style.setProperty("--columns", kept.map((width) => `minmax(${width}em, ${width}fr)`).join(" "));
    table.style.minWidth = `${kept.reduce((sum, width) => sum + width)}em`;
  }

  columns.slice(1).forEach((column, index) => {
    const change = (event) => {
      headers[index + 1].hidden = !event.target.checked;
      for (const row of rows.values()) row.cells[index + 1 + before].hidden = !event.target.checked;
      layOut();
    };
    const box = make("input", { type: "checkbox", checked: true, change });
    $("#columns div").append(make("label", {}, box, column.name));
  });
  layOut();

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
}

cellTable();
