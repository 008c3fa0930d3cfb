// Densities and histograms.

// A density in units of its deviation, about its mean, in those of the tensor.
function density(place, mean, std) {
  if (place === null || place === undefined || mean === null || mean === undefined) return null;
  const unit = std || 1, [xs, ys, atoms] = data.curves[place];
  const found = { xs: xs.map((x) => x * unit + mean), ys: ys.map((y) => y / unit), atoms: atoms.map(([x, share]) => [x * unit + mean, share]) };
  return [...found.xs, ...found.ys].every(Number.isFinite) ? found : null;
}

function densities({ common }) {
  if (data.kind !== "diff") return [density(common.curve, common.mean, common.std)].filter(Boolean);
  return ["_a", "_b"].map((side) => density(common[`curve${side}`], common[`mean${side}`], common[`std${side}`]));
}

function figureOf(row) {
  const curves = densities(row).map((curve, place) => curve && { ...curve, kind: place ? "curve other" : "curve" }).filter(Boolean);
  const histogram = row.histogram;
  if (!curves.length && !histogram) return null;
  const ends = curves.flatMap(({ xs, atoms }) => [...(xs.length ? [xs[0], xs[xs.length - 1]] : []), ...atoms.map(([value]) => value)]);
  if (histogram) ends.push(histogram.low, histogram.high);
  let low = Math.min(...ends), high = Math.max(...ends);
  if (low === high) [low, high] = [low - Math.max(Math.abs(low), 1) / 2, high + Math.max(Math.abs(high), 1) / 2];
  const bars = [];
  if (histogram) {
    // Few values need wide bars.
    const { bins, count: total } = histogram;
    const pooled = [1, 2, 4, 8].find((each) => total / (48 / each) >= 8) || 8;
    const width = ((histogram.high - histogram.low) / bins.length) * pooled;
    for (let place = 0; place < bins.length; place += pooled) {
      const count = bins.slice(place, place + pooled).reduce((sum, each) => sum + each, 0);
      bars.push([histogram.low + (place / pooled) * width, width, total ? count / total / width : 0, count]);
    }
  }
  // An atom fills the bar that it lies in: where there is one, the others would vanish beside it.
  const atoms = curves.some((curve) => curve.atoms.length);
  const tops = [...curves.flatMap(({ ys }) => ys), ...(atoms ? [] : bars.map((bar) => bar[2]))];
  const top = Math.max(...tops, 0) || Math.max(...bars.map((bar) => bar[2]), 0) || 1;
  return { curves, bars, low, high, top: top * 1.08, histogram };
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
  for (const { xs, ys, atoms, kind } of figure.curves) {
    if (xs.length) {
      const line = xs.map((value, index) => `${place(x(value))} ${place(y(ys[index]))}`);
      parts.push(draw("path", { class: kind, d: `M${line.join("L")}` }));
    }
    for (const [value, share] of atoms) {
      const end = place(height - Math.max(share, 0.04) * height * 0.92);
      parts.push(draw("path", { class: kind.replace("curve", "atom"), d: `M${place(x(value))} ${height}V${end}` }));
    }
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
  if (data.kind === "diff") return `The densities of both sides: ${visible(common.a)}, and ${visible(common.b)}`;
  const parts = [`expected ${spread(common.mean, common.std)}`];
  if (row.count !== null) parts.push(`measured ${spread(row.mean, row.std)}`);
  return `${row.histogram ? "Histogram of the values, and the" : "The"} expected density: ${parts.join(", ")}`;
}

function spark(row) {
  const figure = figureOf(row);
  return figure ? [draw("svg", { class: "spark", viewBox: "0 0 80 26", "aria-hidden": "true" }, ...plot(figure, 80, 26))] : [];
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
  for (const { kind } of figure.curves) {
    const other = kind !== "curve";
    const title = data.kind === "diff" ? visible(other ? data.b : data.a) : data.kind === "recording" ? "as recorded" : data.kind === "inference" ? "as inferred" : "expected";
    caption.append(make("i", { class: other ? "line other" : "line" }), title);
  }
  if (data.counted === false && data.kind === "audit") caption.append(make("span", {}, " · values were not counted (histograms=True)"));
  const outside = figure.histogram ? [[figure.histogram.below, "below"], [figure.histogram.above, "above"]] : [];
  const beyond = outside.filter(([count]) => count).map(([count, side]) => `${whole(count)} ${side}`);
  if (beyond.length) caption.append(` · ${beyond.join(", ")} what is shown`);
  return make("figure", {}, image, ticks, caption);
}
