// Rows.

const rows = data.rows.map(([title, aliases, mean, std, low, high, count, status, verdict, share, histogram], index) => {
  const common = data.shares[share];
  const words = [title, ...aliases, common.module_type, common.rule || "", common.init || ""].join("\n").toLowerCase();
  return { index, name: title, aliases, mean, std, low, high, count, status, verdict, common, histogram, words };
});
const byName = new Map();
for (const row of rows) for (const title of [row.name, ...row.aliases]) byName.set(title, row);
const judged = (row) => (row.status === "initialized" || row.status === "read" ? row.verdict : row.status);
const tone = (row) => ({ exact: "exact", ok: "ok", differs: "differs", untestable: "untestable", kept: "kept" }[judged(row)] || "other");

const wins = new Map(), shadows = new Map();
const add = (map, key) => map.set(key, (map.get(key) || 0) + 1);
for (const row of rows) {
  if (row.common.rule !== null) add(wins, row.common.rule);
  row.common.shadowed.forEach((rule) => add(shadows, rule));
}

// What is shown: filters, sorting, the open row.

const NO_FILTER = { text: "", rule: "", type: "", status: "", verdict: "", module: null, kept: false };
const filters = { ...NO_FILTER };
const sorting = { key: null, falling: false };
// What a filter holds of a rule: an empty text is no filter, and a rule may have any name.
const NO_RULE = "none", FROZEN = "frozen", ADAPTER = "adapter";
const keyOf = (rule) => (rule === null ? NO_RULE : `=${rule}`);
const ruleOf = ({ common }) => (common.rule === null && common.reason === FROZEN ? FROZEN : keyOf(common.rule));
// Where only some were to be written, the others are shown on demand.
const left = (row) => Boolean(data.left) && row.status === "kept" && row.verdict !== "differs";
const folded = () => Boolean(data.left) && !filters.kept && filters.status !== "kept" && filters.rule !== FROZEN && !filters.verdict;

function fits(row, words) {
  const { common } = row;
  return (
    !(left(row) && folded()) &&
    (!filters.rule || ruleOf(row) === filters.rule) &&
    (!filters.type || common.module_type === filters.type) &&
    (!filters.status || row.status === filters.status) &&
    (!filters.verdict || row.verdict === filters.verdict) &&
    (filters.module === null || row.name.startsWith(filters.module)) &&
    words.every((word) => row.words.includes(word))
  );
}

function refresh() {
  const words = filters.text.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    const hit = fits(row, words);
    if (hit) count += 1;
    row.element.hidden = !hit;
    if (row.detail) row.detail.hidden = !hit;
  }
  at("shown").textContent = count === rows.length ? whole(count) : `${whole(count)} of ${whole(rows.length)}`;
  at("nothing").hidden = count > 0;
  at("left").hidden = !folded();
  at("search").value = filters.text;
  for (const key of ["rule", "type", "status", "verdict"]) at(`filter-${key}`).value = filters[key];
  const within = at("within");
  within.hidden = filters.module === null;
  if (filters.module !== null) {
    const leave = make("button", { type: "button" }, "show all modules");
    leave.onclick = () => set({ module: null });
    within.replaceChildren("Below ", make("code", {}, name(filters.module.slice(0, -1))), leave);
  }
  for (const button of at("rules").querySelectorAll(".rule")) {
    button.setAttribute("aria-pressed", String(keyOf(button.rule) === filters.rule));
  }
  for (const item of at("tree").querySelectorAll("[role=treeitem]")) {
    item.setAttribute("aria-selected", String(item.path === filters.module));
  }
  roam();
}

function set(changes) {
  Object.assign(filters, changes);
  refresh();
}

const COLUMNS = [
  ["name", "Parameter", (row) => row.name],
  ["type", "Type", (row) => row.common.module_type],
  ["shape", "Shape", (row) => row.common.numel],
  ["fans", "Fans in, out", (row) => row.common.fan_in],
  ["rule", "Rule", (row) => row.common.rule],
  ["init", "Initializer", (row) => row.common.init],
  ["text", "Distribution", (row) => row.common.distribution],
  ["expected", "Expected", (row) => row.common.std],
  ["measured", "Measured", (row) => row.std],
  ["drawn", "Values", null],
  ["verdict", "Verdict", (row) => ["differs", "untestable", "ok", "exact"].indexOf(judged(row))],
];
const natural = new Intl.Collator("en", { numeric: true });

function sort(key) {
  if (sorting.key !== key) Object.assign(sorting, { key, falling: false });
  else if (!sorting.falling) sorting.falling = true;
  else Object.assign(sorting, { key: null, falling: false });
  const column = COLUMNS.find(([each]) => each === sorting.key);
  const ordered = [...rows];
  if (column) {
    const value = column[2], sign = sorting.falling ? -1 : 1;
    ordered.sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === null || b === null) return (a === null) - (b === null) || one.index - other.index;
      return sign * (typeof a === "string" ? natural.compare(a, b) : a - b) || one.index - other.index;
    });
  }
  at("rows").append(...ordered.flatMap((row) => (row.detail ? [row.element, row.detail] : [row.element])));
  for (const heading of at("columns").children) {
    if (!heading.hasAttribute("aria-sort")) continue;
    const way = heading.key === sorting.key ? (sorting.falling ? "descending" : "ascending") : "none";
    heading.setAttribute("aria-sort", way);
  }
}
