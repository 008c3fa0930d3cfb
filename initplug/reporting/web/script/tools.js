// Search, filters, and what is said of them; rules and numbers that are pressed.

function refresh() {
  rows();
  at("shown").textContent = `${shown.rows === total ? whole(total) : `${whole(shown.rows)} of ${whole(total)}`}${lineCount()}`;
  at("nothing").hidden = shown.rows > 0 || total === 0;
  at("rows").parentElement.hidden = total === 0 || at("as-text").checked;
  at("left").hidden = !shortened();
  if (at("search").value !== filters.text) at("search").value = filters.text;
  for (const [key] of FILTERS) at(`filter-${key}`).value = filters[key];
  const within = at("within");
  within.hidden = filters.module === null;
  if (filters.module !== null) {
    const leave = make("button", { type: "button" }, "show all modules");
    leave.onclick = () => set({ module: null });
    within.replaceChildren("Below ", make("code", {}, name(filters.module.slice(0, -1))), leave);
  }
  for (const rule of document.querySelectorAll(".rule")) rule.setAttribute("aria-pressed", String("rule" in filters && keyOf(rule.rule) === filters.rule));
  for (const item of at("tree").querySelectorAll("[role=treeitem]")) item.setAttribute("aria-selected", String(item.path === filters.module));
  list();
}

const lineCount = () => {
  const lines = shown.lines.length - details.length;
  return folding && lines < shown.rows ? ` in ${plural(lines, "line")}` : "";
};

function set(changes) {
  Object.assign(filters, changes);
  refresh();
}

function tools() {
  const counts = ([, , value, byKind]) => {
    const found = new Map();
    if (byKind) kinds.forEach((kind, place) => rowsOfKind[place] && add(found, value({ common: kind }), rowsOfKind[place]));
    else for (let place = 0; place < total; place += 1) add(found, value(place));
    return [...found];
  };
  for (const filter of FILTERS) {
    const [key, title] = filter;
    const choice = make("select", { id: `filter-${key}` }, make("option", { value: "" }, "all"));
    const listed = counts(filter);
    if (key !== "rule") listed.sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [value, count] of listed) {
      const told = FILTER_TITLES[value] || visible(value.startsWith("=") && key === "rule" ? value.slice(1) : value);
      choice.append(make("option", { value }, `${told.slice(0, 200)} (${whole(count)})`));
    }
    choice.onchange = () => set({ [key]: choice.value });
    at("reset").before(make("label", {}, make("span", {}, title), choice));
  }
  at("search").placeholder = { recording: "name, type, what it holds, file", inference: "name, type, what it looks like", diff: "name, rule, initializer", probe: "name, type" }[data.kind] || "name, type, rule, initializer";
  at("search").oninput = () => set({ text: at("search").value });
  at("search").form.onsubmit = (event) => event.preventDefault();
  at("reset").onclick = () => set(NO_FILTER);
  at("fold").parentElement.hidden = blocks.length === 0;
  at("fold").onchange = () => {
    folding = at("fold").checked;
    for (const block of blocks) block.open = false;
    refresh();
  };
  const show = make("button", { type: "button" }, "show them");
  show.onclick = () => set({ kept: true });
  at("left").append(visible(data.left || ""), show);
}

function presses() {
  document.querySelectorAll(".rule").forEach((element) => {
    element.rule = data.rules[Number(element.dataset.rule)];
    if (FILTERS.some(([key]) => key === "rule") && data.kind !== "diff") element.onclick = () => set({ rule: filters.rule === keyOf(element.rule) ? "" : keyOf(element.rule) });
  });
  for (const element of document.querySelectorAll("#summary button")) {
    const { toRow: row, toRule: rule, ...asked } = element.dataset;
    element.onclick = () => {
      if (row !== undefined) toRow(Number(row));
      else if (rule !== undefined) toRule(data.rules[Number(rule)]);
      else {
        set(asked);
        at("parameters").scrollIntoView({ block: "nearest" });
      }
    };
  }
}

function toRule(rule) {
  const found = [...document.querySelectorAll(".rule")].find((each) => each.rule === rule);
  if (found) {
    found.scrollIntoView({ block: "nearest" });
    found.focus();
  }
}

function toRow(place) {
  if (place < 0) return;
  if (!shown.fit[place]) set({ ...NO_FILTER, kept: leftOut(place) });
  if (folding && blockOf[place] >= 0) blocks[blockOf[place]].open = true;
  opened.add(place);
  refresh();
  mark(rowAt(place));
  go(place, "center");
}
