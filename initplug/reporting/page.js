"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const at = (id) => document.getElementById(id);

  // Elements and texts. Texts are only ever set as text: a name is never markup.

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  }

  function draw(tag, attributes, ...children) {
    const element = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const ESCAPES = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  const HIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\u00a0]/gu;
  function visible(text) {
    return text.replace(HIDDEN, (sign) => ESCAPES[sign] || `\\u${sign.codePointAt(0).toString(16).padStart(4, "0")}`);
  }

  const name = (text) => make("bdi", {}, visible(text));
  // Names differ at their ends: where there is little room, what stands before is cut.
  function ends(text) {
    const cut = text.split(".").slice(0, -2).join(".").length;
    if (!cut) return [name(text)];
    const tail = name(text.slice(cut));
    tail.className = "tail";
    return [name(text.slice(0, cut)), tail];
  }
  const digits = (value, count = 4) => {
    if (value === null || value === undefined) return "–";
    if (value === 0) return "0";
    const size = Math.abs(value);
    return size >= 1e6 || size < 1e-4
      ? value.toExponential(count - 1).replace(/\.?0+e/, "e").replace("e+", "e")
      : String(Number(value.toPrecision(count)));
  };
  const whole = (value) => (value === null ? "–" : value.toLocaleString("en"));
  const plural = (count, word) => `${whole(count)} ${word}${count === 1 ? "" : "s"}`;
  const shape = (sizes) => (sizes.length ? sizes.join("×") : "()");
  function compact(value) {
    for (const [unit, sign] of [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e4, "k"]]) {
      if (value >= unit) return `${digits(value / (sign === "k" ? 1e3 : unit), 3)}${sign}`;
    }
    return whole(value);
  }
  function spread(mean, std) {
    if (mean === null || std === null) return "–";
    if (std === 0) return digits(mean);
    const rounded = Math.round((mean / std) * 1000) / 1000 * std;
    return `${digits(rounded, 2)} ± ${digits(std, 3)}`;
  }

  // Rows.

  const rows = data.rows.map(([title, aliases, mean, std, low, high, count, status, verdict, share, histogram], index) => {
    const common = data.shares[share];
    const words = [title, ...aliases, common.module_type, common.rule || "", common.init || ""].join("\n").toLowerCase();
    return { index, name: title, aliases, mean, std, low, high, count, status, verdict, common, histogram, words };
  });
  const byName = new Map();
  for (const row of rows) for (const title of [row.name, ...row.aliases]) byName.set(title, row);
  const judged = (row) => (row.status === "initialized" || row.status === "read" ? row.verdict : row.status);
  const tone = (row) => ({ ok: "ok", differs: "differs", untestable: "untestable", kept: "kept" }[judged(row)] || "other");

  const wins = new Map(), shadows = new Map();
  const add = (map, key) => map.set(key, (map.get(key) || 0) + 1);
  for (const row of rows) {
    if (row.common.rule !== null) add(wins, row.common.rule);
    row.common.shadowed.forEach((rule) => add(shadows, rule));
  }

  // What is shown: filters, sorting, the open row.

  const filters = { text: "", rule: "", type: "", status: "", verdict: "", module: null };
  const sorting = { key: null, falling: false };
  const NO_RULE = "\u0000none";

  function fits(row, words) {
    const { common } = row;
    return (
      (!filters.rule || (filters.rule === NO_RULE ? common.rule === null : common.rule === filters.rule)) &&
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
      button.setAttribute("aria-pressed", String(filters.rule !== "" && button.rule === filters.rule));
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
    ["verdict", "Verdict", (row) => ["differs", "untestable", "ok"].indexOf(judged(row))],
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

  // Densities and histograms.

  function figureOf(row) {
    const curve = row.common.curve === null ? null : data.curves[row.common.curve];
    const histogram = row.histogram;
    if (!curve && !histogram) return null;
    const [xs, ys, atoms] = curve || [[], [], []];
    const ends = [...(xs.length ? [xs[0], xs[xs.length - 1]] : []), ...atoms.map(([value]) => value)];
    if (histogram) ends.push(histogram[0], histogram[1]);
    let low = Math.min(...ends), high = Math.max(...ends);
    if (low === high) [low, high] = [low - Math.max(Math.abs(low), 1) / 2, high + Math.max(Math.abs(high), 1) / 2];
    let bars = [];
    if (histogram) {
      // Few values need wide bars.
      const total = histogram[4].reduce((sum, count) => sum + count, 0) + histogram[2] + histogram[3];
      const pooled = [1, 2, 4, 8].find((each) => total / (48 / each) >= 8) || 8;
      const width = ((histogram[1] - histogram[0]) / histogram[4].length) * pooled;
      for (let place = 0; place < histogram[4].length; place += pooled) {
        const count = histogram[4].slice(place, place + pooled).reduce((sum, each) => sum + each, 0);
        bars.push([histogram[0] + (place / pooled) * width, width, total ? count / total / width : 0, count]);
      }
    }
    // An atom fills the bar that it lies in: where there is one, the others would vanish beside it.
    const tops = [...ys, ...(atoms.length ? [] : bars.map((bar) => bar[2]))];
    const top = Math.max(...tops, 0) || Math.max(...bars.map((bar) => bar[2]), 0) || 1;
    return { xs, ys, atoms, bars, low, high, top: top * 1.08, histogram };
  }

  function plot(figure, width, height) {
    const x = (value) => ((value - figure.low) / (figure.high - figure.low)) * width;
    const y = (value) => height - Math.min(value / figure.top, 1) * height;
    const place = (value) => value.toFixed(1);
    const parts = [];
    if (figure.bars.length) {
      const path = figure.bars
        .filter((bar) => bar[3])
        .map(([from, size, value]) => `M${place(x(from))} ${height}V${place(y(value))}H${place(x(from + size))}V${height}Z`);
      parts.push(draw("path", { class: "bars", d: path.join("") }));
    }
    if (figure.xs.length) {
      const line = figure.xs.map((value, index) => `${place(x(value))} ${place(y(figure.ys[index]))}`);
      parts.push(draw("path", { class: "curve", d: `M${line.join("L")}` }));
    }
    for (const [value, share] of figure.atoms) {
      const end = place(height - Math.max(share, 0.04) * height * 0.92);
      parts.push(draw("path", { class: "atom", d: `M${place(x(value))} ${height}V${end}` }));
    }
    return parts;
  }

  // Round numbers in an interval, about five.
  function round(low, high) {
    const size = 10 ** Math.floor(Math.log10((high - low) / 4));
    const step = [1, 2, 5, 10].map((each) => each * size).find((each) => (high - low) / each <= 6);
    const found = [];
    for (let count = Math.ceil(low / step); count * step <= high && found.length < 9; count += 1) found.push(count * step);
    return found;
  }

  function told(row) {
    const { common } = row;
    const parts = [`expected ${spread(common.mean, common.std)}`, `measured ${spread(row.mean, row.std)}`];
    return `${row.histogram ? "Histogram of the values, and the" : "The"} expected density: ${parts.join(", ")}`;
  }

  function spark(row) {
    const figure = figureOf(row);
    if (!figure) return;
    row.spark.append(draw("svg", { class: "spark", viewBox: "0 0 80 26", "aria-hidden": "true" }, ...plot(figure, 80, 26)));
  }

  function large(row) {
    const figure = figureOf(row);
    if (!figure) return null;
    const [width, height] = [560, 190];
    const values = round(figure.low, figure.high);
    const place = (value) => (value - figure.low) / (figure.high - figure.low);
    const axis = values.map((value) => `M${(place(value) * width).toFixed(1)} ${height}v5`).join("");
    const parts = [...plot(figure, width, height), draw("path", { class: "axis", d: `M0 ${height}H${width}${axis}` })];
    const image = draw("svg", { viewBox: `0 -4 ${width} ${height + 10}`, role: "img", "aria-label": told(row) }, ...parts);
    const ticks = make("div", { class: "ticks", "aria-hidden": "true" });
    for (const value of values) {
      const tick = make("span", {}, digits(value, 3));
      tick.style.left = `${100 * place(value)}%`;
      ticks.append(tick);
    }
    const caption = make("figcaption");
    if (figure.bars.length) caption.append(make("i"), "values");
    if (figure.xs.length || figure.atoms.length) caption.append(make("i", { class: "line" }), "expected");
    if (!data.counted) caption.append(make("span", {}, " · values were not counted (histograms=True)"));
    const outside = figure.histogram ? [[figure.histogram[2], "below"], [figure.histogram[3], "above"]] : [];
    const beyond = outside.filter(([count]) => count).map(([count, side]) => `${whole(count)} ${side}`);
    if (beyond.length) caption.append(` · ${beyond.join(", ")} what is shown`);
    return make("figure", {}, image, ticks, caption);
  }

  // Details.

  function button(text, act, title) {
    const element = make("button", { type: "button", title: title || null }, typeof text === "string" ? name(text) : text);
    element.onclick = (event) => {
      event.stopPropagation();
      act();
    };
    return element;
  }

  function listed(buttons) {
    return buttons.flatMap((each, index) => (index ? [", ", each] : [each]));
  }

  function sheet(row) {
    const { common } = row;
    const range = (low, high) => (low === null && high === null ? "unbounded" : `${digits(low)} to ${digits(high)}`);
    const facts = [
      ["Name", [make("code", {}, name(row.name))]],
      row.aliases.length ? ["Also called", [make("code", {}, name(row.aliases.join(", ")))]] : null,
      ["Tensor", [`${common.kind} of ${visible(common.module_type)}, ${shape(common.shape)} = ${whole(common.numel)}, ${common.dtype}${common.trainable ? "" : ", no gradient"}`]],
      ["Fans", [common.fan_in === null ? "none" : `in ${whole(common.fan_in)}, out ${whole(common.fan_out)}`]],
      ["Rule", common.rule === null ? [make("span", { class: "norule" }, "no rule matches")] : [button(common.rule, () => toRule(common.rule), "Show it in the recipe"), common.location ? ` at ${visible(common.location)}` : ""]],
      common.selector === null ? null : ["Selector", [make("code", {}, name(common.selector))]],
      common.shadowed.length ? ["Shadowed", listed(common.shadowed.map((rule) => button(rule, () => toRule(rule), "Show it in the recipe")))] : null,
      common.init === null ? null : ["Initializer", [make("code", {}, name(common.init))]],
      common.distribution === null ? null : ["Distribution", [make("code", {}, name(common.distribution))]],
      ["Expected", common.mean === null ? ["–"] : [`mean ${digits(common.mean, 5)}, std ${digits(common.std, 5)}, ${common.std === 0 ? "one value" : range(common.low, common.high)}`]],
      ["Measured", row.count === null ? ["–"] : [`mean ${digits(row.mean, 5)}, std ${digits(row.std, 5)}, ${range(row.low, row.high)}, ${plural(row.count, "element")}`]],
      ["Status", [row.status]],
      ["Verdict", [make("span", { class: `mark ${tone(row)}` }, row.verdict)]],
      common.rule === null ? null : ["", [button(`Parameters of this rule (${whole(wins.get(common.rule))})`, () => set({ rule: common.rule }))]],
    ];
    const list = make("dl");
    for (const [title, parts] of facts.filter(Boolean)) list.append(make("dt", {}, title), make("dd", {}, ...parts));
    return make("div", { class: "sheet" }, list, large(row));
  }

  function toggle(row, open = !row.detail) {
    if (!open) {
      row.detail?.remove();
      row.detail = null;
    } else if (!row.detail) {
      row.detail = make("tr", { role: "row", class: "detail" }, make("td", { role: "cell" }, sheet(row)));
      row.element.after(row.detail);
    }
    row.element.classList.toggle("open", open);
    row.button.setAttribute("aria-expanded", String(open));
    mark(open ? row : null);
  }

  function mark(row) {
    for (const each of at("rules").querySelectorAll(".rule")) {
      each.classList.toggle("wins", row !== null && each.rule === row.common.rule);
      each.classList.toggle("shadowed", row !== null && row.common.shadowed.includes(each.rule));
      if (row !== null && each.rule === row.common.rule) into(at("rules"), each);
    }
  }

  // Inside a list that scrolls by itself, and leaving the page where it is.
  function into(list, element) {
    const [outer, inner] = [list.getBoundingClientRect(), element.getBoundingClientRect()];
    if (inner.top < outer.top || inner.bottom > outer.bottom) list.scrollTop += inner.top - outer.top - 40;
  }

  function toRule(rule) {
    const found = [...at("rules").querySelectorAll(".rule")].find((each) => each.rule === rule);
    if (found) {
      found.scrollIntoView({ block: "nearest" });
      found.focus();
    }
  }

  function toRow(title) {
    const row = byName.get(title);
    if (!row) return;
    if (row.element.hidden) set({ text: "", rule: "", type: "", status: "", verdict: "", module: null });
    toggle(row, true);
    roam(row);
    row.element.scrollIntoView({ block: "center" });
    row.button.focus({ preventScroll: true });
  }

  // Parts of the page.

  function summarise() {
    const { summary } = data;
    const by = { differs: 0, untestable: 0, ok: 0 };
    const bar = new Map();
    let covered = 0, numel = 0;
    for (const row of rows) {
      by[row.verdict] += 1;
      bar.set(tone(row), (bar.get(tone(row)) || 0) + 1);
      numel += row.common.numel;
      if (row.common.rule !== null) covered += row.common.numel;
    }
    const bad = by.differs;
    const rest = by.untestable ? `, ${by.untestable} cannot be tested` : "";
    const line = bad
      ? `${plural(bad, "parameter")} of ${whole(rows.length)} ${bad === 1 ? "is" : "are"} not what the recipe says`
      : `Nothing differs: ${whole(by.ok)} of ${plural(rows.length, "parameter")} ${by.ok === 1 ? "is" : "are"} as planned${rest}`;
    const strip = make("div", { class: "bar", role: "img", "aria-label": [...bar].map(([word, count]) => `${count} ${word}`).join(", ") });
    for (const word of ["ok", "untestable", "other", "kept", "differs"]) {
      if (!bar.has(word)) continue;
      const part = make("i", { class: word });
      part.style.flexGrow = bar.get(word);
      strip.append(part);
    }
    const facts = make("div", { class: "facts" });
    const fact = (value, word, kind, act) => {
      const inner = [make("b", {}, value), make("span", {}, word)];
      const element = act ? make("button", { type: "button", class: kind || null }, ...inner) : make("div", {}, ...inner);
      if (act) element.onclick = () => (act(), at("parameters").scrollIntoView({ block: "nearest" }));
      facts.append(element);
    };
    fact(whole(rows.length), "parameters");
    fact(compact(numel), "elements");
    fact(`${numel ? digits((100 * covered) / numel, 3) : 0} %`, "of them under a rule");
    for (const word of ["ok", "differs", "untestable"]) {
      if (by[word]) fact(whole(by[word]), word, word, () => set({ verdict: word }));
    }
    for (const [word, count] of Object.entries(summary.status || {})) {
      if (word !== "initialized") fact(whole(count), word, word, () => set({ status: word }));
    }
    if (data.unmatched.length) fact(whole(data.unmatched.length), "unmatched", "unmatched", () => set({ rule: NO_RULE }));
    if (data.unused.length) fact(whole(data.unused.length), data.unused.length === 1 ? "unused rule" : "unused rules", "unused", () => toRule(data.unused[0]));
    const lists = make("div", { class: "lists" });
    const list = (title, names, act) => {
      if (!names.length) return;
      const shown = names.slice(0, 12).map((each) => button(each, () => act(each)));
      lists.append(make("p", {}, `${title}: `, ...listed(shown), names.length > 12 ? ` and ${names.length - 12} more` : ""));
    };
    list("Differ", rows.filter((row) => row.verdict === "differs").map((row) => row.name), toRow);
    list("Unmatched", data.unmatched, toRow);
    list("Unused", data.unused, toRule);
    at("summary").append(make("p", { class: bad ? "verdict-line bad" : "verdict-line" }, line), strip, facts);
    if (lists.children.length) at("summary").append(lists);
  }

  function recipe() {
    const list = at("rules");
    if (data.head.trim()) list.append(make("pre", {}, data.head.trimEnd()));
    list.append(make("pre", {}, "rules:"));
    for (const rule of data.rules) {
      const [won, lost] = [wins.get(rule.name) || 0, shadows.get(rule.name) || 0];
      const hits = make("span", { class: "hits" }, rule.disabled ? "off" : whole(won));
      if (lost) hits.append(make("small", {}, `${whole(lost)} shadowed`));
      const kind = rule.disabled ? " off" : won ? "" : " none";
      const text = rule.text.trimEnd().replace(/^/gm, "  ");
      const element = make(
        "button",
        {
          type: "button",
          class: `rule${kind}`,
          "aria-pressed": "false",
          "aria-label": `rule ${visible(rule.name)}: ${rule.disabled ? "disabled" : plural(won, "parameter")}${lost ? `, shadowed on ${lost}` : ""}`,
          title: rule.location ? visible(rule.location) : null,
        },
        make("code", {}, text),
        hits,
      );
      element.rule = rule.name;
      element.onclick = () => set({ rule: filters.rule === rule.name ? "" : rule.name });
      list.append(element);
    }
  }

  function plant() {
    const root = { title: "", path: null, children: new Map(), slots: 0, numel: 0, bad: 0, type: "" };
    for (const row of rows) {
      const parts = row.name.split(".").slice(0, -1);
      let node = root, path = "";
      const visit = () => {
        node.slots += 1;
        node.numel += row.common.numel;
        node.bad += row.verdict === "differs";
      };
      visit();
      for (const part of parts) {
        path += `${part}.`;
        if (!node.children.has(part)) node.children.set(part, { title: part, path, children: new Map(), slots: 0, numel: 0, bad: 0, type: "" });
        node = node.children.get(part);
        visit();
      }
      node.type = row.common.module_type;
    }
    const tree = at("tree");
    tree.append(branch(root, 0));
    unfold(tree.firstChild, true);
    tree.firstChild.tabIndex = 0;
    tree.addEventListener("keydown", climb);
  }

  function branch(node, depth) {
    const inner = node.children.size > 0;
    const totals = make("span", { class: "total" }, node.bad ? make("b", {}, `${whole(node.bad)} ✕ `) : "", `${whole(node.slots)} · ${compact(node.numel)}`);
    const title = make("span", { class: "name" }, node.path === null ? "the model" : name(node.title), node.type ? make("small", {}, visible(node.type)) : "");
    title.title = visible(node.path === null ? "" : node.path.slice(0, -1));
    const twist = make("span", { class: "twist", "aria-hidden": "true" }, inner ? "▶" : "");
    const line = make("div", { class: "node" }, twist, title, totals);
    line.style.setProperty("--depth", depth);
    const spoken = `${node.path === null ? "the model" : visible(node.title)}: ${plural(node.slots, "parameter")}, ${plural(node.numel, "element")}${node.bad ? `, ${node.bad} differ` : ""}`;
    const item = make("li", { role: "treeitem", "aria-level": depth + 1, "aria-selected": "false", "aria-label": spoken, tabindex: "-1" }, line);
    Object.assign(item, { path: node.path, node, depth });
    if (inner) item.setAttribute("aria-expanded", "false");
    line.onclick = (event) => {
      if (event.target === twist && inner) unfold(item, item.getAttribute("aria-expanded") === "false");
      else choose(item);
      move(item);
    };
    return item;
  }

  function unfold(item, open) {
    if (!item.hasAttribute("aria-expanded")) return;
    if (open && !item.group) {
      item.group = make("ul", { role: "group" }, ...[...item.node.children.values()].map((child) => branch(child, item.depth + 1)));
      item.append(item.group);
      for (const child of item.group.children) child.setAttribute("aria-selected", String(child.path === filters.module));
    }
    if (item.group) item.group.hidden = !open;
    item.setAttribute("aria-expanded", String(open));
  }

  function choose(item) {
    unfold(item, true);
    set({ module: item.path });
  }

  function move(item) {
    if (!item) return;
    at("tree").querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
    item.tabIndex = 0;
    item.focus({ preventScroll: true });
    into(at("tree"), item.firstChild);
  }

  function climb(event) {
    const item = event.target.closest("[role=treeitem]");
    const items = [...at("tree").querySelectorAll("[role=treeitem]")].filter((each) => each.offsetParent !== null);
    const place = items.indexOf(item);
    const open = item.getAttribute("aria-expanded");
    const acts = {
      ArrowDown: () => move(items[place + 1]),
      ArrowUp: () => move(items[place - 1]),
      Home: () => move(items[0]),
      End: () => move(items[items.length - 1]),
      ArrowRight: () => (open === "false" ? unfold(item, true) : open === "true" ? move(items[place + 1]) : null),
      ArrowLeft: () => (open === "true" ? unfold(item, false) : move(item.parentElement.closest("[role=treeitem]"))),
      Enter: () => choose(item),
      " ": () => choose(item),
    };
    if (event.key in acts && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      acts[event.key]();
    }
  }

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
      const rule = common.rule === null ? make("span", { class: "norule" }, "no rule") : make("span", { title: visible(common.rule) }, name(common.rule));
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
    choices("filter-rule", "all rules", counts((row) => row.common.rule ?? NO_RULE), (value) => (value === NO_RULE ? "no rule" : visible(value)));
    choices("filter-type", "all types", counts((row) => row.common.module_type).sort(([a], [b]) => natural.compare(a, b)));
    choices("filter-status", "any status", counts((row) => row.status));
    choices("filter-verdict", "any verdict", counts((row) => row.verdict));
    at("search").oninput = () => set({ text: at("search").value });
    at("search").form.onsubmit = (event) => event.preventDefault();
    at("reset").onclick = () => set({ text: "", rule: "", type: "", status: "", verdict: "", module: null });
  }

  function theme() {
    const button = at("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    let chosen = null;
    try {
      chosen = localStorage.getItem("initplug-theme");
    } catch { /* a page without storage follows the system */ }
    const show = () => {
      const dark = chosen ? chosen === "dark" : system.matches;
      document.documentElement.dataset.theme = dark ? "dark" : "light";
      button.textContent = dark ? "Light" : "Dark";
      button.setAttribute("aria-label", `Show in ${dark ? "light" : "dark"} colours`);
    };
    button.onclick = () => {
      chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try {
        localStorage.setItem("initplug-theme", chosen);
      } catch { /* likewise */ }
      show();
    };
    system.onchange = show;
    show();
  }

  theme();
  at("title").append(name(data.recipe || "recipe"));
  const seed = data.seed === null || data.seed === undefined ? "torch's generator" : `seed ${data.seed}`;
  at("meta").textContent = [seed, `torch ${data.versions.torch}`, `initplug ${data.versions.initplug}`].map(visible).join(" · ");
  at("footer").textContent = `recipe digest ${data.digest}`;
  summarise();
  recipe();
  tabulate();
  tools();
  plant();
  refresh();
})();
