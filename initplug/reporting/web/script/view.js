// What is shown: filters, order, and the lines that come of them. A line is a number: a row is its place, a block
// -1 less its place, the details of a row the number of rows more than its place.

const FILTERS = FILTERS_OF[data.kind];
const NO_FILTER = { text: "", module: null, kept: false, ...Object.fromEntries(FILTERS.map(([key]) => [key, ""])) };
const filters = { ...NO_FILTER };
const sorting = { key: null, falling: false };
let folding = true;
const opened = new Set();

const isBlock = (line) => line < 0;
const isDetail = (line) => line >= total;
const detailOf = (place) => total + place;
const rowOf = (line) => (isBlock(line) ? blockRow(blocks[-1 - line]) : rowAt(isDetail(line) ? line - total : line));

// Where only some were to be written, the others are shown on demand.
const leftOut = (place) => Boolean(data.left) && codedOf.status(place) === "kept" && !differs(place);
const shortened = () => Boolean(data.left) && !filters.kept && filters.status !== "kept" && filters.rule !== FROZEN && !filters.verdict;

let texts = null; // names in small letters
function searched() {
  texts ||= data.names.map((title, place) => (data.aliases[place] ? [title, ...data.aliases[place]].join("\n") : title).toLowerCase());
}
const kindTexts = kinds.map((kind) => TEXTS.map((key) => kind[key]).filter((text) => typeof text === "string").join("\n").toLowerCase());

function hits() {
  const words = filters.text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length) searched();
  // Of a kind of row it is known once which words it has.
  const missing = kindTexts.map((text) => words.filter((word) => !text.includes(word)));
  const asked = FILTERS.filter(([key]) => filters[key] !== "");
  const ofKind = asked.filter(([, , , byKind]) => byKind);
  const ofRow = asked.filter(([, , , byKind]) => !byKind);
  const kindFits = kinds.map((kind) => ofKind.every(([key, , value]) => value({ common: kind }) === filters[key]));
  const short = shortened();
  const found = new Uint8Array(total);
  if (!words.length && !asked.length && !short && filters.module === null) return found.fill(1);
  const within = filters.module;
  for (let place = 0; place < total; place += 1) {
    const kind = kindOf(place);
    if (!kindFits[kind] || (short && leftOut(place)) || (within !== null && !data.names[place].startsWith(within))) continue;
    const sought = missing[kind];
    let fits = 1;
    for (let at = 0; fits && at < sought.length; at += 1) if (!texts[place].includes(sought[at])) fits = 0;
    for (let at = 0; fits && at < ofRow.length; at += 1) if (ofRow[at][2](place) !== filters[ofRow[at][0]]) fits = 0;
    found[place] = fits;
  }
  return found;
}

// Rows and blocks in the order that is asked for; a block stands where its first row does.
const orders = new Map();
function order() {
  const key = `${folding}/${sorting.key}/${sorting.falling}`;
  if (orders.has(key)) return orders.get(key);
  let found = [];
  for (let place = 0; place < total; place += 1) {
    const block = folding ? blockOf[place] : -1;
    if (block < 0) found.push(place);
    else if (blocks[block].members[0] === place) found.push(-1 - block);
  }
  const column = COLUMNS.find((each) => each.key === sorting.key);
  if (column) found = sorted(found, column, (line) => (isBlock(line) ? blocks[-1 - line].members[0] : line));
  orders.set(key, found);
  return found;
}

function sorted(lines, column, first = (line) => line) {
  const sign = sorting.falling ? -1 : 1;
  const kindKeys = column.ofKind ? ranked(kinds.map(column.ofKind)) : null;
  const value = kindKeys ? (line) => kindKeys[kindOf(first(line))] : (line) => column.of(line, first(line));
  const keyed = lines.map((line, turn) => ({ line, turn, key: value(line) ?? null }));
  const unknown = (key) => key === null || Number.isNaN(key);
  keyed.sort((a, b) => {
    if (unknown(a.key) || unknown(b.key)) return unknown(a.key) - unknown(b.key) || a.turn - b.turn;
    return sign * (a.key - b.key) || a.turn - b.turn;
  });
  return keyed.map(({ line }) => line);
}

// Texts as numbers in their order, so that texts are compared once for a kind of row and not for every row.
function ranked(values) {
  if (!values.some((value) => typeof value === "string")) return values;
  const natural = new Intl.Collator("en", { numeric: true });
  const places = new Map([...new Set(values.filter((value) => value != null))].sort(natural.compare).map((value, place) => [value, place]));
  return values.map((value) => (value == null ? null : places.get(value)));
}

let shown = { lines: [], rows: 0, fit: new Uint8Array(0), partly: new Map() };

function lay() {
  const fit = hits();
  const lines = [], partly = new Map(), fits = new Int32Array(blocks.length);
  let rows = 0;
  for (let place = 0; place < total; place += 1) {
    if (!fit[place]) continue;
    rows += 1;
    if (blockOf[place] >= 0) fits[blockOf[place]] += 1;
  }
  const put = (place) => {
    lines.push(place);
    if (opened.has(place)) lines.push(detailOf(place));
  };
  const column = COLUMNS.find((each) => each.key === sorting.key);
  for (const line of order()) {
    if (!isBlock(line)) {
      if (fit[line]) put(line);
      continue;
    }
    const { members, open } = blocks[-1 - line], count = fits[-1 - line];
    if (count === 0) continue;
    if (count > 1) {
      partly.set(line, count);
      lines.push(line);
      if (!open) continue;
    }
    const inner = members.filter((member) => fit[member]);
    (column ? sorted(inner, column) : inner).forEach(put);
  }
  shown = { lines, rows, fit, partly };
}
