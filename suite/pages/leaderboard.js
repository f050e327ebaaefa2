"use strict";

const tables = [...document.querySelectorAll("table")];
const protocol = document.getElementById("protocol");
const family = document.getElementById("family");
const search = document.getElementById("search");
const curves = document.getElementById("curves");

function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  for (const row of document.querySelectorAll("tbody tr")) {
    const text = row.textContent.toLowerCase();
    const fits =
      (!protocol.value || row.dataset.protocol === protocol.value) &&
      (!family.value || row.dataset.family === family.value) &&
      words.every((word) => text.includes(word));
    row.hidden = !fits;
    shown += fits;
  }
  document.getElementById("count").textContent = `${shown} rows`;
}

// Numbers by size, everything else as text; what is empty stays last either way.
function compare(left, right, direction) {
  if (left === "" || right === "") return (left === "") - (right === "");
  const difference = Number(left) - Number(right);
  const order = Number.isNaN(difference) ? left.localeCompare(right) : difference;
  return direction * order;
}

function sort(table, column) {
  const titles = [...table.querySelectorAll("th")];
  const title = titles[column];
  const descending = title.getAttribute("aria-sort") === "ascending";
  for (const other of titles) other.removeAttribute("aria-sort");
  title.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const body = table.querySelector("tbody");
  const rows = [...body.querySelectorAll("tr")];
  const value = (row) => row.children[column].dataset.value;
  rows.sort((one, other) => compare(value(one), value(other), descending ? -1 : 1));
  body.append(...rows);
}

function element(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function show(row) {
  const [low, high, steps] = row.dataset.ends.split("|");
  const svg = element("svg", { width: 300, height: 120 });
  const plot = element("g", { transform: "translate(50,10)", fill: "none", stroke: "#0072b2" });
  const [mean, ...seeds] = row.dataset.curves.split(";");
  for (const points of seeds)
    plot.append(element("polyline", { points, opacity: 0.45, "stroke-width": 0.8 }));
  plot.append(element("polyline", { points: mean, "stroke-width": 2.2 }));
  plot.append(element("path", { d: "M0,0V90H240", stroke: "#888" }));
  svg.append(plot);
  svg.append(element("text", { x: 46, y: 18, "text-anchor": "end" }, high));
  svg.append(element("text", { x: 46, y: 100, "text-anchor": "end" }, low));
  svg.append(element("text", { x: 290, y: 114, "text-anchor": "end" }, `${steps} steps`));
  curves.replaceChildren(svg);
  curves.hidden = false;
}

for (const table of tables) {
  table.querySelectorAll("th").forEach((title, column) => {
    title.querySelector("button").addEventListener("click", () => sort(table, column));
  });
  table.addEventListener("mouseover", (event) => {
    const row = event.target.closest("tr[data-curves]");
    if (row) show(row);
    else curves.hidden = true;
  });
  table.addEventListener("mouseleave", () => {
    curves.hidden = true;
  });
}
for (const control of [protocol, family, search]) control.addEventListener("input", filter);
filter();
