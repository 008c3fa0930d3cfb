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
  const fan = (count) => (count === null ? "of several sizes" : whole(count));
  const facts = [
    ["Name", [make("code", {}, name(row.name))]],
    row.aliases.length ? ["Also called", [make("code", {}, name(row.aliases.join(", ")))]] : null,
    ["Tensor", [`${common.kind} of ${visible(common.module_type)}, ${shape(common.shape)} = ${whole(common.numel)}, ${common.dtype}${common.trainable ? "" : ", no gradient"}`]],
    ["Fans", [common.fan_in === null && common.fan_out === null ? "none" : `in ${fan(common.fan_in)}, out ${fan(common.fan_out)}`]],
    ["Rule", common.rule === null ? [make("span", { class: [FROZEN, ADAPTER].includes(common.reason) ? null : "norule" }, common.reason === FROZEN ? "none: it is frozen" : common.reason === ADAPTER ? "none: it is of an adapter" : "no rule matches")] : [button(common.rule, () => toRule(common.rule), "Show it in the recipe"), common.location ? ` at ${visible(common.location)}` : ""]],
    common.selector === null ? null : ["Selector", [make("code", {}, name(common.selector))]],
    common.shadowed.length ? ["Shadowed", listed(common.shadowed.map((rule) => button(rule, () => toRule(rule), "Show it in the recipe")))] : null,
    common.init === null ? null : ["Initializer", [make("code", {}, name(common.init))]],
    common.distribution === null ? null : ["Distribution", [make("code", {}, name(common.distribution))]],
    ["Expected", common.mean === null ? ["–"] : [`mean ${digits(common.mean, 5)}, std ${digits(common.std, 5)}, ${common.std === 0 ? "one value" : range(common.low, common.high)}`]],
    ["Measured", row.count === null ? ["–"] : [`mean ${digits(row.mean, 5)}, std ${digits(row.std, 5)}, ${range(row.low, row.high)}, ${plural(row.count, "element")}`]],
    ["Status", [row.status]],
    ["Verdict", [make("span", { class: `mark ${tone(row)}` }, row.verdict)]],
    common.reason ? ["Reason", [visible(common.reason)]] : null,
    common.note ? ["Note", [visible(common.note)]] : null,
    common.problem ? ["Problem", [visible(common.problem)]] : null,
    common.rule === null ? null : ["", [button(`Parameters of this rule (${whole(wins.get(common.rule))})`, () => set({ rule: keyOf(common.rule) }))]],
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
  if (row.element.hidden) set({ ...NO_FILTER, kept: left(row) });
  toggle(row, true);
  roam(row);
  row.element.scrollIntoView({ block: "center" });
  row.button.focus({ preventScroll: true });
}
