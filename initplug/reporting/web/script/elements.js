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
const thousands = new Intl.NumberFormat("en");
const whole = (value) => (value === null ? "–" : thousands.format(value));
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
