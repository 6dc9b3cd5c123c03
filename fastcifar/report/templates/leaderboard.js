"use strict";

// Sorts, filters and lights what the page holds already.

// Every column sorts its table; what is missing stands last, both ways.
for (const table of document.querySelectorAll(".sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const said = (body) => body.rows[0].cells[column].dataset.value ?? body.rows[0].cells[column].textContent;
    const sorts = document.createElement("button");
    const arrow = document.createElement("span");
    sorts.type = "button";
    arrow.className = "arrow";
    arrow.ariaHidden = "true";
    const [title, ...below] = heading.childNodes;
    sorts.append(title, arrow, ...below);
    heading.append(sorts);
    sorts.addEventListener("click", () => {
      const sign = heading.ariaSort === "ascending" ? -1 : 1;
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.ariaSort = sign > 0 ? "ascending" : "descending";
      const rows = [...table.tBodies].sort((one, other) => {
        const [a, b] = [said(one), said(other)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (Number(a) - Number(b) || a.localeCompare(b, "en", { numeric: true }));
      });
      table.append(...rows);
    });
  });
}

// What is pointed at or focused, a row, a curve or its name in the legend, is lit wherever it stands.
const curves = document.querySelectorAll("[data-curve]");
for (const event of ["pointerover", "focusin"]) {
  document.addEventListener(event, ({ target }) => {
    const lit = target.closest?.("[data-curve]")?.dataset.curve;
    document.querySelector("#chart")?.classList.toggle("lit", lit !== undefined);
    for (const one of curves) one.classList.toggle("on", one.dataset.curve === lit);
  });
}

// Hide what does not match: rows, tables without rows, and the curves of hidden records. What others published stays
// in the chart, to compare with.
const form = document.getElementById("filters");
const found = document.getElementById("found");
const entries = [...document.querySelectorAll(".entry")];
const texts = new Map();
for (const row of document.querySelectorAll(".sortable > tbody")) {
  const parts = [row.closest("section").querySelector("h2"), row.rows[0], ...row.querySelectorAll("dl")];
  texts.set(row, parts.map((part) => part.textContent).join(" ").toLowerCase());
}

function apply() {
  const words = document.getElementById("text").value.toLowerCase().split(/\s+/).filter(Boolean);
  const asked = [...form.querySelectorAll("select")].filter((select) => select.value);
  for (const [row, text] of texts) {
    const fits = asked.every(({ name, value }) => (row.dataset[name] ?? value) === value);
    row.hidden = !fits || !words.every((word) => text.includes(word));
  }
  for (const section of document.querySelectorAll(".group, .published")) {
    section.hidden = !section.querySelector(".sortable > tbody:not([hidden])");
  }
  for (const entry of entries) {
    for (const one of curves) {
      if (one.dataset.curve === entry.id) one.toggleAttribute("hidden", entry.hidden);
    }
  }
  const shown = entries.filter((entry) => !entry.hidden).length;
  const count = entries.length === 1 ? "1 record" : `${entries.length} records`;
  const filtered = words.length > 0 || asked.length > 0;
  found.textContent = filtered ? `${shown} of ${count}` : count;
  document.getElementById("reset").hidden = !filtered;
  document.getElementById("nothing").hidden = shown > 0;
}

form.addEventListener("input", apply);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(apply)); // the fields are empty only after the event
form.hidden = entries.length === 0;
if (!form.hidden) apply();
