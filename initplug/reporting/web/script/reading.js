// Reading beyond the screen: the list as text, printing, and the browser's own search, which sees what is there alone.

const MOST_PRINTED = 2000; // lines that are printed as the table has them

function asText(lines) {
  const told = (row) =>
    COLUMNS.filter(({ cell }) => cell).map(({ cell }) => {
      const held = cell(row);
      return typeof held === "string" ? held : held.textContent;
    });
  return lines
    .filter((line) => !isDetail(line))
    .map((line) => [visible(rowOf(line).name), ...told(rowOf(line))].join("  "))
    .join("\n");
}

// The text is that of the rows that fit, each of a block by itself.
function list() {
  const text = at("text"), wanted = at("as-text").checked;
  text.hidden = !wanted;
  if (wanted) text.textContent = asText(shown.lines);
}

function reading() {
  at("as-text").onchange = () => {
    if (at("as-text").checked && folding) {
      at("fold").checked = folding = false;
    }
    refresh();
  };
  const key = /Mac|iP(hone|ad)/.test(navigator.platform) ? "⌘F" : "Ctrl-F";
  at("find-hint").textContent = `${key} searches all parameters, twice what is on the screen; “as text” puts every line there`;
  addEventListener("keydown", (event) => {
    if (event.key !== "f" || !(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
    if (document.activeElement === at("search") || at("as-text").checked) return; // the browser's own
    event.preventDefault();
    at("search").focus();
    at("search").select();
  });
  addEventListener("beforeprint", () => {
    if (shown.lines.length > MOST_PRINTED) {
      at("text").textContent = asText(shown.lines);
      at("text").hidden = false;
      at("rows").parentElement.hidden = true;
      return;
    }
    all = true;
    at("rows").classList.add("all");
    render();
  });
  addEventListener("afterprint", () => {
    all = false;
    at("rows").classList.remove("all");
    refresh();
  });
}
