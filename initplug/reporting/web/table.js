// The table, its keys and its tools.

function tabulate() {
  for (const [key, title, value] of COLUMNS) {
    const heading = make("th", { role: "columnheader", scope: "col", class: `c-${key}`, "aria-sort": value ? "none" : null });
    heading.key = key;
    if (value) {
      const press = make("button", { type: "button" }, title);
      press.onclick = () => sort(key);
      heading.append(press);
    } else heading.append(make("span", {}, title));
    at("columns").append(heading);
  }
  const cell = (key, ...children) => {
    const text = children.length === 1 && typeof children[0] === "string" ? children[0] : null;
    return make("td", { role: "cell", class: `c-${key}`, title: text }, ...children);
  };
  const body = document.createDocumentFragment();
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      watch.unobserve(entry.target);
      spark(entry.target.row);
    }
  }, { rootMargin: "400px" });
  for (const row of rows) {
    const { common } = row;
    row.button = make("button", { type: "button", class: "name", "aria-expanded": "false", tabindex: "-1", title: visible(row.name) }, ...ends(row.name));
    const rule = common.rule === null ? make("span", { class: common.reason === FROZEN ? null : "norule" }, common.reason === FROZEN ? FROZEN : "no rule") : make("span", { title: visible(common.rule) }, name(common.rule));
    row.spark = cell("drawn");
    row.element = make(
      "tr",
      { role: "row", class: "row" },
      cell("name", row.button),
      cell("type", name(common.module_type)),
      cell("shape", shape(common.shape)),
      cell("fans", common.fan_in === null ? "–" : `${whole(common.fan_in)}, ${whole(common.fan_out)}`),
      cell("rule", rule),
      cell("init", common.init === null ? "–" : name(common.init)),
      cell("text", common.distribution === null ? "–" : name(common.distribution)),
      cell("expected", spread(common.mean, common.std)),
      cell("measured", spread(row.mean, row.std)),
      row.spark,
      cell("verdict", make("span", { class: `mark ${tone(row)}` }, judged(row))),
    );
    row.element.row = row;
    body.append(row.element);
    watch.observe(row.element);
  }
  at("rows").append(body);
  at("rows").addEventListener("click", (event) => {
    const element = event.target.closest("tr.row");
    if (!element || String(getSelection()).length) return;
    toggle(element.row);
    roam(element.row);
  });
  at("rows").addEventListener("keydown", walk);
  addEventListener("beforeprint", () => {
    for (const row of rows) {
      watch.unobserve(row.element);
      if (!row.spark.firstChild) spark(row);
    }
  });
}

// One row is reached by Tab, the others from it by arrow keys.
let stop = null;
function roam(row) {
  const next = row || (stop && !stop.element.hidden ? stop : [...at("rows").children].find((each) => each.row && !each.hidden)?.row);
  if (stop) stop.button.tabIndex = -1;
  if (next) next.button.tabIndex = 0;
  stop = next || null;
}

function walk(event) {
  if (!event.target.matches("button.name")) return;
  const shown = [...at("rows").children].filter((each) => each.row && !each.hidden);
  const place = shown.indexOf(event.target.closest("tr"));
  const next = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: shown.length - 1 }[event.key];
  if (event.key === "Escape" && shown[place].row.detail) toggle(shown[place].row, false);
  if (next === undefined || !shown[next]) return;
  event.preventDefault();
  roam(shown[next].row);
  shown[next].row.button.focus();
}

function tools() {
  const choices = (id, everything, values, title = visible) => {
    at(id).append(make("option", { value: "" }, everything), ...[...values].map(([value, count]) => make("option", { value }, `${title(value)} (${whole(count)})`)));
    at(id).onchange = () => set({ [id.slice("filter-".length)]: at(id).value });
  };
  const counts = (value) => {
    const found = new Map();
    for (const row of rows) add(found, value(row));
    return [...found];
  };
  const titles = { [NO_RULE]: "no rule", [FROZEN]: "frozen" };
  choices("filter-rule", "all rules", counts(ruleOf), (value) => titles[value] || visible(value.slice(1)));
  choices("filter-type", "all types", counts((row) => row.common.module_type).sort(([a], [b]) => natural.compare(a, b)));
  choices("filter-status", "any status", counts((row) => row.status));
  choices("filter-verdict", "any verdict", counts((row) => row.verdict));
  at("search").oninput = () => set({ text: at("search").value });
  at("search").form.onsubmit = (event) => event.preventDefault();
  at("reset").onclick = () => set(NO_FILTER);
  const show = make("button", { type: "button" }, "show them");
  show.onclick = () => set({ kept: true });
  at("left").append(visible(data.left || ""), show);
}
