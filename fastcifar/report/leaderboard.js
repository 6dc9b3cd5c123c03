
// The tables, their filters and their details. Text from a record is set as text, never read as markup.

const DATA = JSON.parse(document.getElementById("data").textContent);
const EPOCH_COLUMNS = [
  ["epoch", String],
  ["train s", seconds],
  ["test s", seconds],
  ["loss", (value) => value.toFixed(4)],
  ["accuracy", (value) => percent(value)],
  ["test loss", (value) => value.toFixed(4)],
  ["test accuracy", (value) => percent(value)],
  ["learning rate", (value) => String(Number(value.toPrecision(3)))],
  ["images/s", (value) => value.toLocaleString("en-US", { maximumFractionDigits: value < 100 ? 1 : 0 })],
];
const NONE = "–";

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== null) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function short(value) {
  return percent(value).replace(/\.?0+(?=\u00a0)/, "");
}

function range({ low, high }, format) {
  return low === null ? "one run" : `${format(low)} – ${format(high)}`;
}

function chance(p) {
  if (p === null) return NONE;
  return p < 0.0001 ? "< 0.0001" : p.toPrecision(2);
}

function scroller(labelledby, ...children) {
  return element("div", { class: "scroll", role: "group", "aria-labelledby": labelledby, tabindex: "0" }, ...children);
}

// A table whose columns sort it. columns: {title, number, value, cell}; rows: {item, body}, a tbody each.
function sortable(labelledby, columns, rows, sortedBy) {
  const headings = element("tr");
  const table = element("table", { "aria-labelledby": labelledby }, element("thead", {}, headings));
  const order = ({ value }, sign) => (a, b) => {
    const [left, right] = [value(a.item), value(b.item)];
    if (left === null || right === null) return (left === null) - (right === null); // what is missing stands last
    if (typeof left === "number") return sign * (left - right);
    return sign * left.localeCompare(right, "en", { numeric: true });
  };
  columns.forEach((column, index) => {
    const arrow = element("span", { class: "arrow", "aria-hidden": "true" });
    const below = column.below ? [element("span", { class: "below" }, column.below)] : [];
    const sort = element("button", { type: "button" }, column.title, arrow, ...below);
    const sorted = index === sortedBy ? "ascending" : null;
    const heading = element("th", { scope: "col", class: column.number ? "number" : null, "aria-sort": sorted }, sort);
    sort.addEventListener("click", () => {
      const ascending = heading.getAttribute("aria-sort") !== "ascending";
      for (const other of headings.children) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      table.append(...[...rows].sort(order(column, ascending ? 1 : -1)).map((row) => row.body));
    });
    headings.append(heading);
  });
  table.append(...rows.map((row) => row.body));
  return table;
}

function cells(columns, item) {
  return columns.map((column) => {
    const attributes = { class: column.number ? "number" : null, scope: column.heads ? "row" : null };
    return element(column.heads ? "th" : "td", attributes, column.cell(item));
  });
}

function facts(values) {
  const list = element("dl", { class: "facts" });
  for (const [name, value] of Object.entries(values)) {
    if (value === null) continue;
    const said = typeof value === "boolean" ? (value ? "yes" : "no") : String(value);
    list.append(element("dt", {}, name.replaceAll("_", " ")), element("dd", {}, said));
  }
  return list;
}

function epochTable(run, labelledby) {
  const titles = EPOCH_COLUMNS.map(([title]) => element("th", { scope: "col", class: "number" }, title));
  const text = (value, index) => (value === null ? NONE : EPOCH_COLUMNS[index][1](value));
  const cell = (value, index) => element("td", { class: "number" }, text(value, index));
  const rows = run.epochs.map((values) => element("tr", {}, ...values.map(cell)));
  const table = element("table", { "aria-labelledby": labelledby });
  table.append(element("thead", {}, element("tr", {}, ...titles)), element("tbody", {}, ...rows));
  return scroller(labelledby, table);
}

function runDetails(entry, run, number) {
  const id = `${entry.id}-run-${number}`;
  const named = run.seed === null ? "" : `, seed ${run.seed}`;
  const said = [
    `${run.epochs.length} ${run.epochs.length === 1 ? "epoch" : "epochs"}`,
    percent(run.epochs.at(-1)[6]),
    `${seconds(run.wall_seconds)} s in all, after ${seconds(run.setup_seconds)} s of set-up`,
    `${run.started.slice(0, 16).replace("T", " ")} UTC`,
  ].flatMap((text) => [" · ", element("span", { class: "whole" }, text)]);
  const title = element("span", { id, class: "run-title" }, `Run ${number + 1}${named}`);
  const summary = element("summary", {}, title, " ", element("span", { class: "note" }, ...said.slice(1)));
  const details = element("details", {}, summary);
  const fill = () => details.childElementCount === 1 && details.append(epochTable(run, id));
  details.addEventListener("toggle", fill); // a thousand runs have too many rows to build at once
  if (entry.runs.length === 1) {
    details.open = true;
    fill();
  }
  return details;
}

function entryDetails(entry) {
  const part = (title, ...content) => element("section", {}, element("h3", {}, title), ...content);
  const said = (text) => element("p", {}, text);
  const rate = (value) => value.toLocaleString("en-US", { maximumSignificantDigits: 4 });
  const record = {
    file: entry.file,
    program: entry.program,
    recipe_hash: entry.recipe_hash,
    "images/s": `${rate(entry.images_per_second.mean)} (${range(entry.images_per_second, rate)})`,
    accuracy: `${percent(entry.accuracy.mean)} (${range(entry.accuracy, percent)})`,
    images: `${entry.images.train.toLocaleString("en-US")} + ${entry.images.test.toLocaleString("en-US")} to test`,
  };
  return element(
    "div",
    { class: "details" },
    element(
      "div",
      { class: "parts" },
      part("Record", facts(record)),
      part("Execution", entry.execution === null ? said("Its own.") : facts(entry.execution)),
      part("Environment", facts(entry.environment)),
    ),
    part("Recipe", entry.toml === null ? said("Not one of fastcifar's recipes.") : element("pre", {}, entry.toml)),
    part(entry.runs.length === 1 ? "Log" : "Logs", ...entry.runs.map((run, number) => runDetails(entry, run, number))),
  );
}

function timeCell(entry, slowest) {
  const bar = element("span", { class: `bar ${curveClass(entry.curve)}`, "aria-hidden": "true" });
  bar.style.setProperty("--share", entry.seconds.mean / slowest);
  const interval = element("span", { class: "interval" }, range(entry.seconds, seconds));
  const mean = element("span", { class: "mean" }, seconds(entry.seconds.mean));
  return element("div", { class: "time" }, mean, interval, bar);
}

function nameCell(entry) {
  const button = element("button", { type: "button", class: "open", "aria-expanded": "false" }, entry.recipe);
  button.addEventListener("click", () => {
    const row = document.getElementById(`${entry.id}-details`);
    const opens = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", opens);
    if (opens && !row.firstChild.firstChild) row.firstChild.append(entryDetails(entry));
    row.hidden = !opens;
  });
  button.setAttribute("aria-controls", `${entry.id}-details`);
  return button;
}

function rankCell(entry) {
  return element("span", { class: "rank" }, String(entry.rank), swatch(entry.curve));
}

function groupSection(group, index, chart) {
  const id = `group-${index}`;
  const slowest = Math.max(...group.entries.map((entry) => entry.seconds.mean));
  const time = { title: "seconds", below: "95\u00a0% interval", number: true, value: (entry) => entry.seconds.mean };
  const accuracy = { title: "accuracy", number: true, value: (entry) => entry.accuracy.mean };
  const columns = [
    { title: "rank", value: (entry) => entry.rank, cell: rankCell },
    { title: "recipe", heads: true, value: (entry) => entry.recipe, cell: nameCell },
    { ...time, cell: (entry) => timeCell(entry, slowest) },
    { ...accuracy, cell: (entry) => percent(entry.accuracy.mean) },
    { title: "loader", value: (entry) => entry.loader, cell: (entry) => entry.loader },
    { title: "n", number: true, value: (entry) => entry.n, cell: (entry) => String(entry.n) },
    { title: "p", number: true, value: (entry) => entry.p, cell: (entry) => chance(entry.p) },
    { title: "date", value: (entry) => entry.date, cell: (entry) => entry.date },
  ];
  const rows = group.entries.map((entry) => {
    const row = element("tr", { class: "entry" }, ...cells(columns, entry));
    chart.link(row, entry.curve);
    row.addEventListener("click", (event) => {
      if (!event.target.closest("button") && getSelection().isCollapsed) chart.pin(chart.last(entry.curve));
    });
    const details = element("tr", { id: `${entry.id}-details`, class: "unfolded", hidden: "" });
    details.append(element("td", { colspan: columns.length }));
    entry.body = element("tbody", {}, row, details);
    return { item: entry, body: entry.body };
  });
  const title = `${group.division}, ${group.protocol}, ${short(group.target)} on ${group.data}`;
  const heading = element("h2", { id }, title, element("span", { class: "hardware" }, group.hardware));
  group.section = element("section", { class: "group" }, heading, scroller(id, sortable(id, columns, rows, 0)));
  return group.section;
}

function sourceCell({ source }) {
  if (!/^https?:\/\/\S+$/.test(source)) return source;
  return element("a", { href: source, rel: "noopener noreferrer" }, source.replace(/^https?:\/\/(www\.)?/, ""));
}

function publishedTable(results) {
  const columns = [
    { title: "result", heads: true, value: (one) => one.name, cell: (one) => one.name },
    { title: "seconds", number: true, value: (one) => one.seconds, cell: (one) => String(one.seconds) },
    { title: "target", number: true, value: (one) => one.target, cell: (one) => short(one.target) },
    { title: "hardware", value: (one) => one.hardware, cell: (one) => one.hardware },
    { title: "year", number: true, value: (one) => one.year, cell: (one) => String(one.year) },
    { title: "source", value: (one) => one.source, cell: sourceCell },
  ];
  const rows = results.map((one) => {
    one.body = element("tbody", {}, element("tr", {}, ...cells(columns, one)));
    return { item: one, body: one.body };
  });
  return scroller("published-title", sortable("published-title", columns, rows, null));
}

// Fill the selects, and hide what does not match; `chart` shows the curves of what is left.
function filters(chart, published) {
  const form = document.getElementById("filters");
  const text = document.getElementById("text");
  const entries = DATA.groups.flatMap((group) => group.entries);
  const fields = ["division", "protocol", "hardware", "target"].map((name) => [name, document.getElementById(name)]);
  for (const [name, select] of fields) {
    const values = [...new Set([...DATA.groups, ...DATA.published].flatMap((one) => one[name] ?? []))].sort();
    const options = values.map((value) => element("option", { value }, name === "target" ? short(value) : value));
    select.replaceChildren(element("option", { value: "" }, "all"), ...options);
  }
  const apply = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (one) =>
      fields.every(([name, select]) => !select.value || !(name in one) || String(one[name]) === select.value);
    const says = (...values) => words.every((word) => values.join(" ").toLowerCase().includes(word));
    for (const group of DATA.groups) {
      for (const entry of group.entries) {
        const shared = [group.division, group.protocol, group.hardware, group.data];
        const own = [entry.recipe, entry.loader, entry.file, entry.program, entry.date];
        entry.body.hidden = !fits(group) || !says(...shared, ...own, ...Object.values(entry.environment));
      }
      group.section.hidden = group.entries.every((entry) => entry.body.hidden);
    }
    for (const one of DATA.published) {
      one.body.hidden = !fits(one) || !says(one.name, one.hardware, one.year, one.source);
    }
    const shown = entries.filter((entry) => !entry.body.hidden);
    const filtered = words.length > 0 || fields.some(([, select]) => select.value);
    document.getElementById("published").hidden = DATA.published.every((one) => one.body.hidden);
    document.getElementById("nothing").hidden = shown.length > 0;
    document.getElementById("reset").hidden = !filtered;
    const count = entries.length === 1 ? "1 record" : `${entries.length} records`;
    document.getElementById("found").textContent = filtered ? `${shown.length} of ${count}` : count;
    chart.show([...shown.map((entry) => entry.curve), ...published]); // what is published stays, to compare with
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply)); // the fields are empty only after the event
  form.hidden = false;
  apply();
}

// Curves that would have the same name are told apart by more, as little of it as does.
function tellApart(curves) {
  for (const more of ["protocol", "hardware", "file"]) {
    const names = curves.map((curve) => curve.name);
    for (const curve of curves) {
      if (names.indexOf(curve.name) !== names.lastIndexOf(curve.name)) curve.name += `, ${curve[more]}`;
    }
  }
}

function start() {
  const curves = [];
  for (const group of DATA.groups) {
    group.entries.forEach((entry, index) => {
      entry.rank = index + 1;
      entry.id = `record-${curves.length}`;
      const { division, protocol, hardware, target } = group;
      const note = `${division}, ${protocol}, ${hardware}`;
      const told = { name: `${entry.recipe}, ${entry.loader}`, note, protocol, hardware, file: entry.file };
      entry.curve = { id: entry.id, index: curves.length, published: false, target, points: entry.curve, ...told };
      curves.push(entry.curve);
    });
  }
  tellApart(curves);
  const published = DATA.curves.map((curve, index) => ({ ...curve, id: `log-${index}`, index, published: true }));
  const host = document.getElementById("chart");
  const chart = new Chart(host, [...curves, ...published]);
  host.hidden = chart.curves.length === 0;
  document.getElementById("groups").append(...DATA.groups.map((group, index) => groupSection(group, index, chart)));
  document.getElementById("published").hidden = DATA.published.length === 0;
  if (DATA.published.length) document.getElementById("published").append(publishedTable(DATA.published));
  if (DATA.groups.length) filters(chart, published);
  else document.getElementById("empty").hidden = false;
}

start();
