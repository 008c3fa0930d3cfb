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

const range = (low, high) => (low === null && high === null ? "unbounded" : `${digits(low)} to ${digits(high)}`);
const moments = (mean, std, low, high) => (mean === null || mean === undefined ? "–" : `mean ${digits(mean, 5)}, std ${digits(std, 5)}, ${std === 0 ? "one value" : range(low, high)}`);
const code = (told) => make("code", {}, name(told));

function tensorOf({ common }) {
  const kind = common.kind || "parameter", type = common.module_type ? ` of ${visible(common.module_type)}` : "";
  const numel = common.numel ?? common.shape.reduce((product, size) => product * size, 1);
  return `${kind}${type}, ${shape(common.shape)} = ${whole(numel)}${common.dtype ? `, ${common.dtype}` : ""}${common.trainable === false ? ", no gradient" : ""}`;
}

function ruleFacts(row) {
  const { common } = row;
  const fan = (count) => (count === null ? "of several sizes" : whole(count));
  const without = { [FROZEN]: "none: it is frozen", [ADAPTER]: "none: it is of an adapter" }[row.reason];
  return [
    ["Fans", [common.fan_in === null && common.fan_out === null ? "none" : `in ${fan(common.fan_in)}, out ${fan(common.fan_out)}`]],
    ["Rule", common.rule === null ? [make("span", { class: without ? null : "norule" }, without || "no rule matches")] : [button(common.rule, () => toRule(common.rule), "Show it in the recipe"), common.location ? ` at ${visible(common.location)}` : ""]],
    common.selector === null ? null : ["Selector", [code(common.selector)]],
    common.shadowed.length ? ["Shadowed", listed(common.shadowed.map((rule) => button(rule, () => toRule(rule), "Show it in the recipe")))] : null,
    common.init === null ? null : ["Initializer", [code(common.init)]],
    common.distribution === null ? null : ["Distribution", [code(common.distribution)]],
    ["Expected", [common.mean === null ? "–" : moments(common.mean, common.std, common.low, common.high)]],
  ];
}

function recordedFacts({ common, twin }) {
  const places = common.places || [];
  return [
    ["Holds", [code(common.holds)]],
    common.mean === null ? null : ["Moments", [moments(common.mean, common.std, common.low, common.high)]],
    twin ? ["Copy of", [button(twin, () => toRow(placeOf(twin)))]] : null,
    common.rule ? ["Rule drafted", [button(common.rule, () => toRule(common.rule), "Show it in the recipe")]] : null,
    ["Written last at", [places.length ? code(places[places.length - 1]) : "nowhere"]],
    places.length > 1 ? ["Before that at", listed(places.slice(0, -1).reverse().map(code))] : null,
  ];
}

function inferredFacts({ common, twin }) {
  return [
    ["Looks like", [code(common.holds)]],
    common.mean === null ? null : ["Moments", [moments(common.mean, common.std, common.low, common.high)]],
    common.init ? ["Formula", [code(common.init)]] : null,
    ["Confidence", [common.confidence.toFixed(2)]],
    common.others ? ["Or", [visible(common.others)]] : null,
    twin ? ["Copy of", [button(twin, () => toRow(placeOf(twin)))]] : null,
    common.rule ? ["Rule drafted", [button(common.rule, () => toRule(common.rule), "Show it in the recipe")]] : null,
  ];
}

function sideFacts({ common }) {
  const side = (key) => [code(common[key]), common[`mean_${key}`] == null ? "" : ` (${moments(common[`mean_${key}`], common[`std_${key}`], common[`low_${key}`] ?? null, common[`high_${key}`] ?? null)})`];
  const at = (key) => (common[`rule_${key}`] || common[`location_${key}`] ? [`rule ${visible(common[`rule_${key}`] ?? "–")}${common[`location_${key}`] ? ` at ${visible(common[`location_${key}`])}` : ""}`] : ["–"]);
  return [
    ["Differs in", [common.what]],
    [visible(data.a), side("a")],
    ["", at("a")],
    [visible(data.b), side("b")],
    ["", at("b")],
    common.ratio == null ? null : ["Ratio of std", [`×${digits(common.ratio, 5)}`]],
  ];
}

function layerFacts({ common }) {
  const told = (value) => (value == null ? "–" : digits(value, 5));
  return [
    ["Std", [`${told(common.std)} about ${told(common.mean)}, ${told(common.signal)} of it between inputs`]],
    ["Ratio", [`${told(common.ratio)} to the layer before`]],
    ["Zeros", [`${told(common.zeros)} of elements${common.dead == null ? "" : `, ${told(common.dead)} of units dead`}${common.saturated == null ? "" : `, ${told(common.saturated)} saturated`}`]],
    ["Gradient", [`std ${told(common.gradient)}, ratio ${told(common.gradient_ratio)}`]],
  ];
}

function sheet(row) {
  const { common } = row;
  const facts = [
    ["Name", [code(row.name)]],
    row.aliases.length ? ["Also called", [code(row.aliases.join(", "))]] : null,
    common.shape ? ["Tensor", [tensorOf(row)]] : null,
    ...({ recording: recordedFacts, inference: inferredFacts, diff: sideFacts, probe: layerFacts }[data.kind] || ruleFacts)(row),
    has(OWN.count) ? ["Measured", [row.count === null ? "–" : `mean ${digits(row.mean, 5)}, std ${digits(row.std, 5)}, ${range(row.low, row.high)}, ${plural(row.count, "element")}`]] : null,
    row.status ? ["Status", [row.status]] : null,
    row.verdict && data.kind !== "diff" ? ["Verdict", [make("span", { class: `mark ${tone(row)}` }, row.verdict)]] : null,
    row.reason ? ["Reason", [visible(row.reason)]] : null,
    common.note ? ["Note", [visible(common.note)]] : null,
    row.problem ? ["Problem", [visible(row.problem)]] : null,
    common.rule == null || data.kind === "diff" || !FILTERS.some(([key]) => key === "rule") ? null : ["", [button(`Parameters of this rule (${whole(wins.get(common.rule))})`, () => set({ rule: keyOf(common.rule) }))]],
  ];
  const list = make("dl");
  for (const [title, parts] of facts.filter(Boolean)) list.append(make("dt", {}, title), make("dd", {}, ...parts));
  return make("div", { class: "sheet" }, list, large(row));
}

// The recipe shows which rule an opened row has, and which it would have.
function mark(row) {
  for (const each of document.querySelectorAll(".rule")) {
    each.classList.toggle("wins", row !== null && each.rule === row.common.rule);
    each.classList.toggle("shadowed", row !== null && (row.common.shadowed || []).includes(each.rule));
    if (row !== null && each.rule === row.common.rule) into(at("rules"), each);
  }
}

// Inside a list that scrolls by itself, and leaving the page where it is.
function into(list, element) {
  const [outer, inner] = [list.getBoundingClientRect(), element.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) list.scrollTop += inner.top - outer.top - 40;
}
