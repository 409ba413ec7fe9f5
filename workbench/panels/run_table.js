// A page of runs: headers that sort, check boxes that mark and leave out, and buttons that turn the page.
let count = 0;

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function render({ model, el }) {
  const id = `wb-runs-table-${++count}`;
  el.classList.add("wb-run-table");
  // Plain keys belong to the control; JupyterLab would take them for its own shortcuts.
  el.addEventListener("keydown", (event) => {
    if (!event.ctrlKey && !event.metaKey && event.key !== "Escape") event.stopPropagation();
  });
  const bar = element("div", "wb-run-table-bar");
  const told = element("span", "wb-run-table-count");
  told.id = id;
  told.setAttribute("role", "status");
  const turn = (label, by) => {
    const button = element("button", "", label);
    button.type = "button";
    button.addEventListener("click", () => {
      const { page } = model.get("content");
      model.send({ act: "page", to: page + by });
    });
    return button;
  };
  const back = turn("Previous page", -1), on = turn("Next page", 1);
  bar.append(told, back, on);
  const box = element("div", "wb-run-table-box");
  box.tabIndex = 0;  // so that the keyboard can scroll a wide table
  box.setAttribute("role", "region");
  box.setAttribute("aria-labelledby", id);
  const table = element("table");
  box.append(table);
  el.append(bar, box);

  const tick = (name, checked, act, runs, key) => {
    const input = element("input");
    input.type = "checkbox";
    input.checked = checked;
    input.setAttribute("aria-label", name);
    input.title = name;
    input.dataset.key = key;
    input.addEventListener("change", () => model.send({ act, runs, on: input.checked }));
    return input;
  };

  const update = () => {
    const { columns = [], rows = [], sort = "", descending = false, page = 0, pages = 1, count: words = "" } =
      model.get("content");
    const focused = el.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    told.textContent = words;
    back.disabled = page <= 0;
    on.disabled = page >= pages - 1;
    back.hidden = on.hidden = pages < 2;
    const head = element("tr");
    for (const [label, act, field] of [["Mark", "mark", "marked"], ["Use", "use", "used"]]) {
      const cell = element("th", "wb-run-table-tick");
      cell.scope = "col";
      cell.append(element("div", "", label));
      const verb = act === "mark" ? "Mark every run on this page" : "Use every run on this page in fits";
      const all = rows.length > 0 && rows.every((row) => row[field]);
      cell.append(tick(verb, all, act, rows.map((row) => row.run), `all ${act}`));
      head.append(cell);
    }
    for (const { key, label, unit, number } of columns) {
      const cell = element("th", number ? "wb-run-table-number" : "");
      cell.scope = "col";
      const now = sort === key;
      cell.setAttribute("aria-sort", now ? (descending ? "descending" : "ascending") : "none");
      const button = element("button", "", label);
      button.type = "button";
      button.dataset.key = `sort ${key}`;
      button.title = `Sort by ${label}`;
      const arrow = element("span", "wb-run-table-arrow", now ? (descending ? " ▼" : " ▲") : "");
      arrow.setAttribute("aria-hidden", "true");
      button.append(arrow);
      button.addEventListener("click", () => model.send({ act: "sort", key }));
      cell.append(button);
      cell.append(element("div", "wb-run-table-unit", unit || "\u00a0"));
      head.append(cell);
    }
    const thead = element("thead");
    thead.append(head);
    const body = element("tbody");
    for (const { run, cells, marked, used, colour } of rows) {
      const row = element("tr", [marked ? "wb-marked" : "", used ? "" : "wb-out"].join(" ").trim());
      const mark = element("td", "wb-run-table-tick"), use = element("td", "wb-run-table-tick");
      mark.append(tick(`Mark run ${run}`, marked, "mark", [run], `mark ${run}`));
      use.append(tick(`Use run ${run} in fits`, used, "use", [run], `use ${run}`));
      row.append(mark, use);
      cells.forEach((text, i) => {
        const cell = element(i === 0 ? "th" : "td", columns[i].number ? "wb-run-table-number" : "", text);
        if (i === 0) {
          cell.scope = "row";
          cell.title = run;
          if (colour) {
            const swatch = element("span", "wb-run-table-swatch");
            swatch.style.backgroundColor = colour;
            cell.prepend(swatch);
          }
        }
        row.append(cell);
      });
      body.append(row);
    }
    table.replaceChildren(thead, body);
    if (focused) [...el.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused)?.focus();
  };
  model.on("change:content", update);
  model.on("change:description", update);
  table.setAttribute("aria-label", model.get("description"));
  update();
}

export default { render };
