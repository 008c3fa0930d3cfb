// Columns and filters of each kind of page, and how much room columns get.

const NO_RULE = "none", FROZEN = "frozen", ADAPTER = "adapter";
// What a filter holds of a rule: an empty text is no filter, and a rule may have any name.
const keyOf = (rule) => (rule === null ? NO_RULE : `=${rule}`);
const frozen = holds("reason", FROZEN);
const ruleOf = (place) => (kinds[kindOf(place)].rule === null && frozen(place) ? FROZEN : keyOf(kinds[kindOf(place)].rule));

const dash = (value) => (value === null || value === undefined || value === "" ? "–" : value);
const text = (key) => (row) => (row.common[key] == null ? "–" : name(row.common[key]));
const measured = (key) => (line, first) => (isBlock(line) ? blockRow(blocks[-1 - line])[key] : has(OWN[key]) ? data[OWN[key]][first] : null);

// A column: its key and heading, what it is sorted by (`ofKind` where all rows of a kind have the same), its cell, the
// texts that say how wide it is, and its rank: those with a high one are left out first.
const column = (key, title, rank, cell, of, widest) => ({ key, title, rank, cell, ...of, widest });
const kindTextsOf = (make) => () => kinds.map(make);

const NAME = column("name", "Parameter", 0, null, { of: (line, first) => rank(first) }, () => [...data.names, ...data.blocks.name]);
const TYPE = column("type", "Type", 8, text("module_type"), { ofKind: (kind) => kind.module_type }, kindTextsOf((kind) => kind.module_type));
const SHAPE = column("shape", "Shape", 3, (row) => shape(row.common.shape), { ofKind: (kind) => kind.numel ?? kind.shape.reduce((all, size) => all * size, 1) }, kindTextsOf((kind) => shape(kind.shape)));
const FANS = column("fans", "Fans in, out", 9, (row) => fans(row.common), { ofKind: (kind) => kind.fan_in }, kindTextsOf(fans));
const RULE = column("rule", "Rule", 2, (row) => ruleCell(row), { ofKind: (kind) => kind.rule }, kindTextsOf((kind) => kind.rule || "no rule"));
const INIT = column("init", "Initializer", 1, text("init"), { ofKind: (kind) => kind.init }, kindTextsOf((kind) => kind.init || ""));
const TEXT = column("text", "Distribution", 10, text("distribution"), { ofKind: (kind) => kind.distribution }, kindTextsOf((kind) => kind.distribution || ""));
const EXPECTED = column("expected", "Expected", 4, (row) => spread(row.common.mean, row.common.std), { ofKind: (kind) => kind.std }, kindTextsOf((kind) => spread(kind.mean, kind.std)));
const MEASURED = column("measured", "Measured", 5, (row) => spread(row.mean, row.std), { of: measured("std") }, () => ["-0.00065 ± 0.0591"]);
const DRAWN = column("drawn", "Values", 7, null, {}, () => []);
const VERDICT = column("verdict", "Verdict", 0, (row) => verdictCell(row), { of: (line, first) => ["alarm", "differs", "untestable", "ok", "exact"].indexOf(judged(rowAt(first))) }, () => (has("verdict") ? [...data.verdict[0], ...(data.status?.[0] || [])].map((word) => `●  ${word}`) : []));
const HOLDS = column("holds", "Holds", 1, (row) => name(row.common.holds), { ofKind: (kind) => kind.holds }, kindTextsOf((kind) => kind.holds));
const PLACE = column("place", "Written last at", 2, (row) => text("place")(row), { ofKind: (kind) => kind.place }, kindTextsOf((kind) => kind.place || ""));
const LOOKS = column("holds", "Looks like", 1, (row) => name(row.common.holds), { ofKind: (kind) => kind.holds }, kindTextsOf((kind) => kind.holds));
const FORMULA = { ...INIT, title: "Formula", rank: 2 };
const CONFIDENCE = column("confidence", "Confidence", 2, (row) => row.common.confidence.toFixed(2), { ofKind: (kind) => kind.confidence }, () => ["Confidence"]);
const A = column("a", data.a || "a", 1, text("a"), { ofKind: (kind) => kind.std_a }, kindTextsOf((kind) => kind.a));
const B = column("b", data.b || "b", 1, text("b"), { ofKind: (kind) => kind.std_b }, kindTextsOf((kind) => kind.b));
const RATIO = column("ratio", "Ratio of std", 2, (row) => (row.common.ratio == null ? "–" : `×${digits(row.common.ratio)}`), { ofKind: (kind) => kind.ratio }, () => ["Ratio of std"]);
const RULES = column("rule", "Rules", 4, text("rules"), { ofKind: (kind) => kind.rules }, kindTextsOf((kind) => kind.rules));
const AT = column("place", "At", 5, text("location"), { ofKind: (kind) => kind.location }, kindTextsOf((kind) => kind.location || ""));
const WHAT = column("verdict", "Differs in", 6, (row) => (row.common.what), { ofKind: (kind) => kind.what }, kindTextsOf((kind) => kind.what));

// What a probe measured of a layer.
const figure = (key, title, rank) => column(key, title, rank, (row) => (row.common[key] == null ? "–" : digits(row.common[key])), { ofKind: (kind) => kind[key] }, () => [title, "-1.23e-10"]);
const LAYER = { ...NAME, title: "Layer" };
const OUTPUT = { ...SHAPE, title: "Output" };

const COLUMNS = {
  audit: [NAME, TYPE, SHAPE, FANS, RULE, INIT, TEXT, EXPECTED, MEASURED, DRAWN, VERDICT],
  plan: [NAME, TYPE, SHAPE, FANS, RULE, INIT, TEXT, EXPECTED, DRAWN],
  recording: [NAME, TYPE, SHAPE, HOLDS, EXPECTED, DRAWN, PLACE, VERDICT],
  inference: [NAME, TYPE, SHAPE, LOOKS, EXPECTED, DRAWN, FORMULA, CONFIDENCE, VERDICT],
  diff: [NAME, SHAPE, RULES, A, B, RATIO, DRAWN, AT, WHAT],
  probe: [LAYER, TYPE, OUTPUT, figure("std", "Std", 1), figure("ratio", "Ratio", 9), figure("signal", "Between inputs", 2), figure("zeros", "Zeros", 6), figure("gradient", "Gradient", 1), figure("gradient_ratio", "Ratio", 10), VERDICT],
}[data.kind];

// A filter: its key and heading, the value of a row, and whether all rows of a kind have the same.
const byRule = ["rule", "Rule", ruleOf, false];
const byType = ["type", "Type", ({ common }) => common.module_type, true];
const byVerdict = ["verdict", "Verdict", (place) => codedOf.verdict(place), false];
const FILTERS_OF = {
  audit: [byRule, byType, ["status", "Status", (place) => codedOf.status(place), false], byVerdict],
  plan: [byRule, byType],
  recording: [["place", "Written at", ({ common }) => common.place || NO_RULE, true], byType, byVerdict],
  inference: [byRule, byType, byVerdict],
  probe: [byType, byVerdict],
  diff: [["rule", "Rules", ({ common }) => `=${common.rules}`, true], ["what", "Differs in", ({ common }) => common.what, true]],
};
const FILTER_TITLES = { [NO_RULE]: data.kind === "recording" ? "nowhere" : "no rule", [FROZEN]: "frozen" };
// What a search looks through beside names.
const TEXTS = ["module_type", "rule", "init", "holds", "place", "a", "b", "rules", "location", "what"];

function fans(kind) {
  return kind.fan_in == null ? "–" : `${whole(kind.fan_in)}, ${whole(kind.fan_out)}`;
}

function ruleCell({ common, reason }) {
  if (common.rule !== null) return make("span", { title: visible(common.rule) }, name(common.rule));
  return make("span", { class: [FROZEN, ADAPTER].includes(reason) ? null : "norule" }, [FROZEN, ADAPTER].includes(reason) ? reason : "no rule");
}

const verdictCell = (row) => make("span", { class: `mark ${tone(row)}` }, judged(row));

// Room --------------------------------------------------------------------------------------------------------------

const GAP = 12, SPARK = 80, CAP = 420, LEAST = 120;
const WIDEST_NAME = 380;
const LONG = [INIT, FORMULA, HOLDS, LOOKS, A, B, PLACE, AT]; // what may take two lines
const measure = document.createElement("canvas").getContext("2d");
const widths = new Map();

// The widest text of a column, among which long ones are measured, since the widest is one of them.
function needed(column) {
  if (widths.has(column.key)) return widths.get(column.key);
  if (column === DRAWN) return SPARK;
  const style = getComputedStyle(document.body);
  measure.font = column === NAME ? `13px ${style.getPropertyValue("--mono")}` : `14px ${style.fontFamily}`;
  const texts = column.widest();
  const long = Math.max(...texts.map((each) => Math.min(each.length, 200)), 0);
  let width = measure.measureText(column.title).width + 16;
  for (const each of texts) {
    if (each.length >= 0.7 * long) {
      width = Math.max(width, measure.measureText(each.slice(0, 200)).width + 4);
      if (column === NAME) break; // of one width are all their letters
    }
  }
  if (column === NAME) width = Math.max(width, measure.measureText("m").width * Math.min(long, 60) + (blocks.length ? 76 : 20));
  widths.set(column.key, Math.ceil(width));
  return widths.get(column.key);
}

// Chooses columns for a width, returns whether a line of text is enough for the longest of them.
function fit(room) {
  const table = at("rows").parentElement;
  const narrow = room < 620;
  table.classList.toggle("narrow", narrow);
  const named = Math.min(needed(NAME), Math.max(WIDEST_NAME, room * 0.2));
  const size = (each) => (each === NAME ? named : Math.min(needed(each), each === DRAWN ? SPARK : CAP));
  const used = (columns) => columns.reduce((sum, each) => sum + size(each) + GAP, 14);
  let chosen = [...COLUMNS];
  const given = { name: named };
  if (!narrow) {
    // The least that columns may be squeezed to, before one is left out: names and long texts give way.
    const squeezed = (each) => (each === NAME ? Math.min(named, blocks.length ? 210 : 180) : each === RULE || each === RULES ? Math.min(size(each), 110) : LONG.includes(each) ? Math.min(size(each), Math.max(LEAST, size(each) * 0.56)) : size(each));
    const least = (columns) => columns.reduce((sum, each) => sum + squeezed(each) + GAP, 14);
    while (least(chosen) > room && chosen.some((each) => each.rank > 5)) {
      const last = chosen.reduce((worst, each) => (each.rank > worst.rank ? each : worst));
      chosen = chosen.filter((each) => each !== last);
    }
    let over = used(chosen) - room;
    for (const each of chosen) given[each.key] = size(each);
    for (const each of [NAME, RULE, RULES]) {
      if (over <= 0 || !chosen.includes(each)) continue;
      const off = Math.min(over, size(each) - squeezed(each));
      given[each.key] -= off;
      over -= off;
    }
    // What still does not fit takes two lines.
    const long = chosen.filter((each) => LONG.includes(each)).sort((a, b) => given[b.key] - given[a.key]);
    for (const each of long) {
      if (over <= 0) break;
      const off = Math.min(over, given[each.key] - Math.min(given[each.key], Math.max(LEAST, size(each) * 0.6)));
      given[each.key] -= off;
      over -= off;
    }
    table.style.setProperty("--columns", chosen.map((each) => (each === DRAWN ? `${SPARK}px` : `minmax(0, ${Math.round(given[each.key])}fr)`)).join(" "));
  }
  for (const each of COLUMNS) table.classList.toggle(`no-${each.key}`, !narrow && !chosen.includes(each));
  const wraps = chosen.some((each) => each !== NAME && each !== DRAWN && needed(each) > given[each.key] + 1 && LONG.includes(each));
  table.classList.toggle("tall", !narrow && wraps);
}
