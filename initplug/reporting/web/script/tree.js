// The tree of modules, with totals: what is below a module is looked at once it is opened.

function nodesBelow(node) {
  const found = new Map(), depth = node.path === null ? 0 : node.path.length;
  for (const place of node.places) {
    const title = data.names[place], end = title.indexOf(".", depth);
    if (end < 0) continue;
    const path = title.slice(0, end + 1);
    let inner = found.get(path);
    if (!inner) found.set(path, (inner = { title: title.slice(depth, end), path, places: [] }));
    inner.places.push(place);
  }
  for (const inner of found.values()) summed(inner);
  return [...found.values()];
}

function summed(node) {
  const depth = node.path === null ? 0 : node.path.length;
  let numel = 0, bad = 0;
  for (const place of node.places) {
    numel += numelOfKind[kindOf(place)];
    if (differs(place)) bad += 1;
  }
  const leaf = node.places.findLast((place) => data.names[place].indexOf(".", depth) < 0);
  const type = leaf === undefined ? "" : kinds[kindOf(leaf)].module_type || "";
  const inner = node.places.some((place) => data.names[place].indexOf(".", depth) >= 0);
  return Object.assign(node, { numel, bad, type, inner });
}

function plant() {
  const root = summed({ title: "", path: null, places: [...Array(total).keys()] });
  const tree = at("tree");
  tree.append(branch(root, 0));
  unfold(tree.firstChild, true);
  tree.firstChild.tabIndex = 0;
  tree.addEventListener("keydown", climb);
}

function branch(node, depth) {
  const inner = node.inner;
  const totals = make("span", { class: "total" }, node.bad ? make("b", {}, `${whole(node.bad)} ✕ `) : "", `${whole(node.places.length)} · ${compact(node.numel)}`);
  const title = make("span", { class: "name" }, node.path === null ? "the model" : name(node.title), node.type ? make("small", {}, visible(node.type)) : "");
  title.title = visible(node.path === null ? "" : node.path.slice(0, -1));
  const twist = make("span", { class: "twist", "aria-hidden": "true" }, inner ? "▶" : "");
  const line = make("div", { class: "node" }, twist, title, totals);
  line.style.setProperty("--depth", depth);
  const spoken = `${node.path === null ? "the model" : visible(node.title)}: ${plural(node.places.length, "parameter")}, ${plural(node.numel, "element")}${node.bad ? `, ${node.bad} differ` : ""}`;
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
    item.group = make("ul", { role: "group" });
    item.append(item.group);
    grow(item.group, nodesBelow(item.node), item.depth + 1);
  }
  if (item.group) item.group.hidden = !open;
  item.setAttribute("aria-expanded", String(open));
}

// Of thousands of children some are there, and an item that brings the next.
const MOST_CHILDREN = 200;
function grow(group, nodes, depth) {
  const added = nodes.slice(0, MOST_CHILDREN).map((child) => branch(child, depth));
  for (const child of added) child.setAttribute("aria-selected", String(child.path === filters.module));
  group.append(...added);
  if (nodes.length <= MOST_CHILDREN) return;
  const rest = nodes.slice(MOST_CHILDREN), told = `… ${whole(rest.length)} more`;
  const line = make("div", { class: "node" }, make("span", { class: "twist", "aria-hidden": "true" }), make("span", { class: "name" }, told));
  line.style.setProperty("--depth", depth);
  const more = make("li", { role: "treeitem", "aria-level": depth + 1, "aria-label": told, tabindex: "-1" }, line);
  more.act = () => {
    const place = group.children.length - 1;
    more.remove();
    grow(group, rest, depth);
    move(group.children[place]);
  };
  line.onclick = more.act;
  group.append(more);
}

function choose(item) {
  if (item.act) return item.act();
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
