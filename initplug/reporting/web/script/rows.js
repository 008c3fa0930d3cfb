// Rows: columns of the data, of which an object is made for a row once it is looked at.

const total = data.names.length;
const pick = ([values, codes]) => (codes === null ? (place) => values[place] : typeof codes === "number" ? () => values[codes] : (place) => values[codes[place]]);
const has = (key) => data[key] !== undefined;
// Whether a row has a text of those that are coded, found by comparing numbers.
function holds(key, value) {
  if (!has(key)) return () => false;
  const [values, codes] = data[key], code = values.indexOf(value);
  if (codes === null) return (place) => values[place] === value;
  return typeof codes === "number" ? () => code === codes : (place) => codes[place] === code;
}

const kindOf = typeof data.share === "number" ? () => data.share : (place) => data.share[place];
const kindKeys = Object.keys(data.shares);
const kindColumns = kindKeys.map((key) => pick(data.shares[key]));
const kindCount = total ? 1 + (typeof data.share === "number" ? 0 : data.share.reduce((most, code) => Math.max(most, code), 0)) : 0;
const kinds = Array.from({ length: kindCount }, (_, place) => {
  const kind = {};
  kindKeys.forEach((key, column) => (kind[key] = kindColumns[column](place)));
  return kind;
});

const OWN = { mean: "measured_mean", std: "measured_std", low: "measured_min", high: "measured_max", count: "measured_count" };
const CODED = ["status", "verdict", "reason", "problem", "twin"].filter(has);
const codedOf = Object.fromEntries(CODED.map((key) => [key, pick(data[key])]));
const rank = data.ranks ? (place) => data.ranks[place] : (place) => place;

function own(place) {
  const found = { mean: null, std: null, low: null, high: null, count: null };
  for (const [key, column] of Object.entries(OWN)) if (has(column)) found[key] = data[column][place];
  return found;
}

const made = new Array(total);
function rowAt(place) {
  if (made[place]) return made[place];
  const row = { place, name: data.names[place], aliases: data.aliases[place] || [], common: kinds[kindOf(place)], ...own(place) };
  for (const key of CODED) row[key] = codedOf[key](place);
  row.histogram = unpacked(data.histograms[place]);
  return (made[place] = row);
}

// A bin is two letters; a count beyond what they hold was told as a share of the largest.
const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
function unpacked(packed) {
  if (!packed) return null;
  const [low, high, below, above, count, letters] = packed;
  const levels = [];
  for (let at = 0; at < letters.length; at += 2) levels.push(LETTERS.indexOf(letters[at]) * 64 + LETTERS.indexOf(letters[at + 1]));
  const sum = levels.reduce((all, level) => all + level, 0);
  const unit = sum ? (count - below - above) / sum : 0;
  return { low, high, below, above, count, bins: levels.map((level) => level * unit) };
}

const judged = (row) => (row.status === undefined || row.status === "initialized" || row.status === "read" ? row.verdict : row.status);
const TONES = { exact: "exact", ok: "ok", differs: "differs", alarm: "differs", untestable: "untestable", kept: "kept" };
const tone = (row) => TONES[judged(row)] || "other";

const differs = holds("verdict", data.kind === "probe" ? "alarm" : "differs");

// Blocks that repeat: rows that agree, and the moments of all their elements.
const blocks = data.blocks.name.map((title, place) => {
  const [first, step, count] = data.blocks.rows[place];
  const members = first < 0 ? data.blocks.rows[place].slice(1) : Array.from({ length: count }, (_, turn) => first + turn * step);
  return { place, name: title, members, open: false };
});
const blockOf = new Int32Array(total).fill(-1);
for (const block of blocks) for (const member of block.members) blockOf[member] = block.place;

function blockRow(block) {
  if (block.row) return block.row;
  const first = rowAt(block.members[0]);
  const row = { ...first, name: block.name, block };
  if (first.count !== null) for (const [key, column] of Object.entries(OWN)) row[key] = data.blocks[column][block.place];
  const pooled = data.blocks.histograms[block.place];
  row.histogram = pooled ? unpacked(pooled) : together(block.members.map((member) => unpacked(data.histograms[member])).filter(Boolean));
  return (block.row = row);
}

// Histograms with other ends are spread over common bins.
function together(parts) {
  if (parts.length < 2) return parts[0] || null;
  const low = Math.min(...parts.map((part) => part.low)), high = Math.max(...parts.map((part) => part.high));
  const size = parts[0].bins.length, bins = new Array(size).fill(0), width = (high - low) / size;
  const all = { low, high, below: 0, above: 0, count: 0, bins };
  for (const part of parts) {
    all.below += part.below;
    all.above += part.above;
    all.count += part.count;
    const step = (part.high - part.low) / part.bins.length;
    part.bins.forEach((count, place) => {
      if (!count) return;
      if (part.low === low && part.high === high) return void (bins[place] += count);
      const from = (part.low + place * step - low) / width, to = from + step / width;
      for (let bin = Math.max(0, Math.floor(from)); bin < Math.min(size, Math.ceil(to)); bin += 1) {
        bins[bin] += (count * (Math.min(to, bin + 1) - Math.max(from, bin))) / (to - from);
      }
    });
  }
  return all;
}

const placeOf = (title) => {
  const found = data.names.indexOf(title);
  if (found >= 0) return found;
  const other = Object.entries(data.aliases).find(([, names]) => names.includes(title));
  return other ? Number(other[0]) : -1;
};

// Hits of rules: of each kind of row first, then of all rows.
const numelOfKind = Float64Array.from(kinds, (kind) => kind.numel ?? kind.shape.reduce((product, size) => product * size, 1));
const rowsOfKind = new Int32Array(kindCount);
for (let place = 0; place < total; place += 1) rowsOfKind[kindOf(place)] += 1;
const wins = new Map();
const add = (map, key, count = 1) => map.set(key, (map.get(key) || 0) + count);
kinds.forEach((kind, place) => kind.rule != null && add(wins, kind.rule, rowsOfKind[place]));
