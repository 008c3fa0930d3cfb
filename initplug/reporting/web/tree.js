// The tree of modules, with totals.

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
