// The table: only the lines on the screen, and a screen more above and below, are there.

const OVER = 600; // pixels beyond the screen that are drawn
let high = 37; // of a row, once it was measured
const heights = new Map(); // of opened details
const elements = new Map(); // by line
let all = false; // every line, for printing
let stop = null; // the line that Tab reaches; the others are reached from it by arrow keys

function head() {
  for (const { key, title, of, ofKind } of COLUMNS) {
    const sortable = of || ofKind;
    const heading = make("th", { role: "columnheader", scope: "col", class: `c-${key}`, "aria-sort": sortable ? "none" : null });
    heading.key = key;
    if (sortable) {
      const press = make("button", { type: "button", title: visible(title) }, visible(title));
      press.onclick = () => sort(key);
      heading.append(press);
    } else heading.append(make("span", {}, title));
    at("columns").append(heading);
  }
}

function sort(key) {
  if (sorting.key !== key) Object.assign(sorting, { key, falling: false });
  else if (!sorting.falling) sorting.falling = true;
  else Object.assign(sorting, { key: null, falling: false });
  for (const heading of at("columns").children) {
    if (!heading.hasAttribute("aria-sort")) continue;
    heading.setAttribute("aria-sort", heading.key === sorting.key ? (sorting.falling ? "descending" : "ascending") : "none");
  }
  refresh();
}

// Where lines are ------------------------------------------------------------------------------------------------------

const GUESS = 330;
let details = []; // the positions of opened details among the lines

function top(index) {
  let found = index * high;
  for (const each of details) {
    if (each >= index) break;
    found += (heights.get(shown.lines[each]) || GUESS) - high;
  }
  return found;
}

function indexAt(offset) {
  let low = 0, end = shown.lines.length;
  while (low < end) {
    const middle = (low + end) >> 1;
    if (top(middle + 1) <= offset) low = middle + 1;
    else end = middle;
  }
  return low;
}

function wanted() {
  const count = shown.lines.length;
  if (all) return [...shown.lines.keys()];
  const body = at("rows").getBoundingClientRect();
  const from = indexAt(-body.top - OVER), to = Math.min(count, indexAt(innerHeight - body.top + OVER) + 1);
  const found = [];
  for (let index = from; index < to; index += 1) found.push(index);
  // What has the focus stays, wherever it is.
  const focused = document.activeElement?.closest?.("#rows tr")?.line;
  if (focused !== undefined) {
    const index = shown.lines.indexOf(focused);
    if (index >= 0 && index < from) found.unshift(index);
    if (index >= to) found.push(index);
  }
  return found;
}

function render() {
  const body = at("rows");
  const indices = wanted();
  const keep = new Set(indices.map((index) => shown.lines[index]));
  for (const [line, element] of elements) {
    if (keep.has(line)) continue;
    watch.unobserve(element);
    element.remove();
    elements.delete(line);
  }
  body.style.height = all ? "" : `${top(shown.lines.length)}px`;
  let before = null;
  for (const index of indices) {
    const line = shown.lines[index];
    let element = elements.get(line);
    if (!element) {
      element = isDetail(line) ? detailElement(line) : lineElement(line);
      elements.set(line, element);
      if (isDetail(line)) watch.observe(element);
    }
    const next = before ? before.nextSibling : body.firstChild;
    if (element !== next) body.insertBefore(element, next);
    if (!isDetail(line)) update(element);
    element.style.top = all ? "" : `${top(index)}px`;
    element.setAttribute("aria-rowindex", index + 2);
    before = element;
  }
}

const watch = new ResizeObserver((entries) => {
  let changed = false;
  for (const { target } of entries) {
    const height = target.offsetHeight;
    if (height && heights.get(target.line) !== height) {
      heights.set(target.line, height);
      changed = true;
    }
  }
  if (changed) render();
});

let waiting = false;
function later() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    render();
  });
}

// Lines ----------------------------------------------------------------------------------------------------------------

function lineElement(line) {
  const row = rowOf(line), block = row.block;
  const press = make("button", { type: "button", class: "name", tabindex: line === stop ? "0" : "-1", title: visible(row.name.slice(0, 1000)) }, ...ends(row.name));
  const cells = COLUMNS.map(({ key, cell }) => {
    let inner = [];
    if (key === "name") inner = block ? [make("span", { class: "fold", "aria-hidden": "true" }, "▶"), press, make("small", { class: "times", title: `${whole(block.members.length)} that agree` })] : [press];
    else if (cell) inner = [cell(row)];
    const plain = key === "name" ? null : typeof inner[0] === "string" ? inner[0] : inner[0]?.textContent || null;
    const td = make("td", { role: "cell", class: `c-${key}`, title: plain && plain.slice(0, 400) }, ...inner);
    if (key === "drawn") td.append(...spark(row));
    return td;
  });
  const element = make("tr", { role: "row", class: block ? "row block" : "row" }, ...cells);
  Object.assign(element, { line, row });
  return element;
}

// What changes of a line while it is there.
function update(element) {
  const { line, row } = element, block = row.block;
  const open = block ? block.open : opened.has(line);
  const parent = block || !folding ? -1 : blockOf[line];
  element.classList.toggle("open", open);
  element.classList.toggle("member", parent >= 0 && blocks[parent].open && shown.partly.has(-1 - parent));
  element.querySelector("button.name").setAttribute("aria-expanded", String(open));
  if (block) element.querySelector(".times").textContent = times(line, block);
}

function times(line, block) {
  const fits = shown.partly.get(line);
  return fits === block.members.length ? `×${whole(fits)}` : `${whole(fits)} of ${whole(block.members.length)}`;
}

function detailElement(line) {
  const element = make("tr", { role: "row", class: "detail" }, make("td", { role: "cell" }, sheet(rowOf(line))));
  element.line = line;
  return element;
}

const buttonOf = (line) => elements.get(line)?.querySelector("button.name");

function redraw() {
  details = [];
  if (opened.size) shown.lines.forEach((line, index) => isDetail(line) && details.push(index));
  if (stop === null || !shown.lines.includes(stop)) roam(shown.lines.length ? shown.lines[0] : null);
  render();
  const table = at("rows").parentElement;
  table.setAttribute("aria-rowcount", shown.lines.length + 1);
}

function rows() {
  lay();
  redraw();
}

function toggle(line, open) {
  if (isBlock(line)) blocks[-1 - line].open = open ?? !blocks[-1 - line].open;
  else if (open ?? !opened.has(line)) opened.add(line);
  else opened.delete(line);
  rows();
  mark(!isBlock(line) && opened.has(line) ? rowAt(line) : null);
}

function roam(line) {
  const before = buttonOf(stop);
  if (before) before.tabIndex = -1;
  stop = line;
  const now = buttonOf(stop);
  if (now) now.tabIndex = 0;
}

// Brings a line to the screen and gives it the focus.
function go(line, block = "nearest") {
  const index = shown.lines.indexOf(line);
  if (index < 0) return;
  const [from, height] = [at("rows").getBoundingClientRect().top + scrollY + top(index), high];
  const room = at("columns").offsetHeight;
  if (block === "center") scrollTo(0, from - innerHeight / 2);
  else if (from - room < scrollY) scrollTo(0, from - room);
  else if (from + height > scrollY + innerHeight) scrollTo(0, from + height - innerHeight);
  render();
  roam(line);
  buttonOf(line)?.focus({ preventScroll: true });
}

function walk(event) {
  if (!event.target.matches("button.name") || event.ctrlKey || event.metaKey || event.altKey) return;
  const line = event.target.closest("tr").line;
  const rows = shown.lines.filter((each) => !isDetail(each));
  const place = rows.indexOf(line), page = Math.max(1, Math.floor(innerHeight / high) - 2);
  const last = rows.length - 1;
  const to = { ArrowDown: place + 1, ArrowUp: place - 1, Home: 0, End: last, PageDown: Math.min(last, place + page), PageUp: Math.max(0, place - page) }[event.key];
  const block = isBlock(line) ? blocks[-1 - line] : null;
  if (event.key === "Escape" && (block ? block.open : opened.has(line))) toggle(line, false);
  else if (event.key === "Escape" && !block && folding && shown.partly.has(-1 - blockOf[line])) {
    toggle(-1 - blockOf[line], false);
    go(-1 - blockOf[line]);
  } else if (event.key === "ArrowRight" && block && !block.open) toggle(line, true);
  else if (event.key === "ArrowLeft" && block && block.open) toggle(line, false);
  else if (to === undefined || rows[to] === undefined) return;
  else go(rows[to]);
  event.preventDefault();
}

function tabulate() {
  head();
  const body = at("rows");
  body.addEventListener("click", (event) => {
    const element = event.target.closest("tr.row");
    if (!element || (event.detail && String(getSelection()).length)) return;
    roam(element.line);
    toggle(element.line);
  });
  body.addEventListener("keydown", walk);
  body.lines = () => shown.lines.filter((line) => !isDetail(line)).map((line) => rowOf(line).name);
  body.reveal = (title) => go(shown.lines.find((line) => !isDetail(line) && rowOf(line).name === title));
  addEventListener("scroll", later, { passive: true });
  addEventListener("resize", later);
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (contentRect.width === width) return;
    width = contentRect.width;
    resize(width);
    render();
  }).observe(at("parameters"));
}

function resize(width) {
  fit(width);
  const first = document.querySelector("#rows tr.row");
  high = first ? first.getBoundingClientRect().height : high;
  heights.clear();
  for (const [line, element] of elements) if (isDetail(line)) heights.set(line, element.offsetHeight);
}
