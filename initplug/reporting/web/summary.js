// What the audit comes to, and the recipe with hits beside its rules.

function summarise() {
  const { summary } = data;
  const by = { differs: 0, untestable: 0, ok: 0, exact: 0 };
  const bar = new Map();
  let covered = 0, numel = 0;
  for (const row of rows) {
    by[row.verdict] += 1;
    bar.set(tone(row), (bar.get(tone(row)) || 0) + 1);
    numel += row.common.numel;
    if (row.common.rule !== null) covered += row.common.numel;
  }
  const bad = by.differs, fine = by.ok + by.exact;
  const rest = by.untestable ? `, ${by.untestable} cannot be tested` : "";
  const bits = by.exact ? `, ${by.exact === fine ? "all" : whole(by.exact)} of them to the bit` : "";
  const line = bad
    ? `${plural(bad, "parameter")} of ${whole(rows.length)} ${bad === 1 ? "is" : "are"} not what the recipe says`
    : `Nothing differs: ${whole(fine)} of ${plural(rows.length, "parameter")} ${fine === 1 ? "is" : "are"} as planned${bits}${rest}`;
  const strip = make("div", { class: "bar", role: "img", "aria-label": [...bar].map(([word, count]) => `${count} ${word}`).join(", ") });
  for (const word of ["exact", "ok", "untestable", "other", "kept", "differs"]) {
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
  for (const word of ["exact", "ok", "differs", "untestable"]) {
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
  const notes = (data.notes || []).filter((note) => !note.shipped);
  for (const note of notes.slice(0, 12)) {
    lists.append(make("p", {}, "Note: rule ", button(note.rule, () => toRule(note.rule)), `: ${visible(note.message)}`));
  }
  if (notes.length > 12) lists.append(make("p", {}, `… and ${notes.length - 12} more notes`));
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
    element.onclick = () => set({ rule: filters.rule === keyOf(rule.name) ? "" : keyOf(rule.name) });
    list.append(element);
  }
}
