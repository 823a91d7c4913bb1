"use strict";
// The page is whole without this script; it only makes examples and tables sortable.
for (const list of document.querySelectorAll(".cards")) {
  const items = [...list.children];
  if (items.length < 2) continue;
  const facets = new Map(items.map((item) => [item, JSON.parse(item.dataset.facets)]));
  const controls = document.createElement("div");
  controls.className = "controls";
  const wanted = new Map();
  const shown = document.createElement("output");
  const choose = (title, options, changed) => {
    const label = document.createElement("label");
    const select = document.createElement("select");
    label.append(title, select);
    for (const [value, text] of options) select.append(new Option(text, value));
    select.addEventListener("change", () => { changed(select.value); show(); });
    controls.append(label);
  };
  const names = new Set(items.flatMap((item) => Object.keys(facets.get(item))));
  for (const name of names) {
    const values = new Set(items.map((item) => facets.get(item)[name] ?? ""));
    if (values.size < 2) continue;
    const sorted = [...values].filter(Boolean).sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
    choose(name, [["", "all"], ...sorted.map((value) => [value, value])], (value) => wanted.set(name, value));
  }
  const orders = {
    "in turn": () => 0,
    "furthest apart": (a, b) => b.dataset.distance - a.dataset.distance,
    "closest": (a, b) => a.dataset.distance - b.dataset.distance,
    "id": (a, b) => a.dataset.id.localeCompare(b.dataset.id, "en", { numeric: true }),
  };
  choose("order", Object.keys(orders).map((name) => [name, name]), (name) => {
    list.append(...[...items].sort(orders[name]));
  });
  const show = () => {
    let count = 0;
    for (const item of items) {
      const found = facets.get(item);
      item.hidden = [...wanted].some(([name, value]) => value && found[name] !== value);
      count += !item.hidden;
    }
    shown.textContent = `${count} of ${items.length} shown`;
  };
  controls.append(shown);
  list.before(controls);
  show();
}
const said = document.createElement("p");  // what was sorted, for those who do not see it
said.id = "said";
said.className = "aside";
said.role = "status";
document.body.append(said);
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const name = head.firstChild.textContent;
    const button = document.createElement("button");
    button.type = "button";
    button.append(head.firstChild);  // the words; a scale stays below them
    head.prepend(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const order = before === null ? head.dataset.first
        : before === "ascending" ? "descending" : "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.value;
      const compare = (a, b) => head.classList.contains("number") || column === 0
        ? Number(a) - Number(b) : a.localeCompare(b);
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
        return sign * compare(x, y);
      });
      table.tBodies[0].append(...rows);
      said.textContent = `${table.caption.textContent}: sorted by ${name}, ${order}`;
    });
  });
}
