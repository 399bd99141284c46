// Ratios of latencies as dots. A row is a target: { name, target, points }. A point is a check:
// { check, ratio, low, high, remark }. The diamond is the geometric mean. Up to FEW points have their intervals.
const CROWD = 150;
const FEW = 15;
const AROUND_ONE = [0.7, 1.4];
const LETTER = 6.3;

const meanOf = (points) => Math.exp(points.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / points.length);

function ratioChart(label, rows, faster) {
  return chart(label, (width) => {
    const axis = logAxis([...AROUND_ONE, ...rows.flatMap(({ points }) => points.flatMap((point) => [point.ratio, ...ends(point, points)]))], 8, width - 8);
    const [height, wide] = width > 560 ? [58, true] : [74, false];
    const bottom = 22 + rows.length * height;
    return { height: bottom + 24, content: [
      s("text", { class: "muted", x: axis.at(1) - 6, y: 12, "text-anchor": "end" }, `\u2190 ${(faster.length + 3) * LETTER < axis.at(1) ? faster : "faster"}`),
      s("text", { class: "muted", x: axis.at(1) + 6, y: 12 }, "slower \u2192"),
      gridOf(axis, 20, bottom, times), s("line", { class: "one", x1: axis.at(1), x2: axis.at(1), y1: 2, y2: bottom }),
      rows.map((row, at) => ratioRow(row, axis, 22 + at * height, wide && width)),
    ] };
  });
}

// The ends of a point's interval, if they are drawn.
const ends = ({ low, high }, points) => (points.length <= FEW && low && high ? [low, high] : []);

function ratioRow({ name, target, points }, axis, top, wide) {
  const mean = meanOf(points);
  const unsure = points.filter(({ remark }) => remark).length;
  const summary = `geometric mean ${times(mean)} of ${points.length.toLocaleString("en")}${unsure ? `, ${unsure.toLocaleString("en")} with low confidence` : ""}`;
  const middle = top + (wide ? 40 : 56);
  return [
    s("text", { class: "mono", x: 0, y: top + 14 }, name),
    s("text", { class: "muted", x: wide || 0, y: wide ? top + 14 : top + 27, "text-anchor": wide ? "end" : "start" }, summary),
    points.length > CROWD ? histogramOf(target, points, axis, middle + 12) : dots(target, points, axis, middle),
    s("path", { class: "mark mean", d: `M${axis.at(mean)} ${middle - 9}l5 9l-5 9l-5 -9z` }),
  ];
}

// Each interval has its own lane; dots that would overlap are placed above and below in turns.
function dots(target, points, axis, middle) {
  const taken = new Map();
  const lane = points.length <= FEW ? Math.min(6, 28 / points.length) : 0;
  return points.map((point, lanes) => {
    const { check, ratio, low, high, remark } = point;
    const place = Math.round(axis.at(ratio) / 8);
    const nth = taken.get(place) ?? 0;
    taken.set(place, nth + 1);
    const off = lane ? (lanes - (points.length - 1) / 2) * lane : Math.min(12, Math.ceil(nth / 2) * 4) * (nth % 2 ? 1 : -1);
    const text = `${check.case}: ${times(ratio)}${between(low, high, times)} ${remark}`.trim();
    const interval = ends(point, points).length ? whisker(target, axis.at(low), axis.at(high), middle + off) : null;
    return linked(check, text, interval, mark(target, axis.at(ratio), middle + off, 3.6, remark ? "hint" : ""));
  });
}

// A histogram, if there are too many points for dots.
function histogramOf(target, points, axis, floor) {
  const bins = grouped(points, ({ ratio }) => Math.floor(axis.at(ratio) / 6));
  const most = Math.max(...[...bins.values()].map((bin) => bin.length));
  return [...bins].map(([place, bin]) => {
    const height = Math.max(2, (24 * bin.length) / most);
    return s("rect", { class: `mark heap ${seriesClass(target)}`, x: place * 6 + 0.5, width: 5, y: floor - height, height }, s("title", {}, count(bin.length, "case")));
  });
}

function ratioTable(rows) {
  const lines = rows.map(({ name, points }) => {
    const ratios = points.map(({ ratio }) => ratio).sort((one, other) => one - other);
    return [name, count(ratios.length, "case"), ...[meanOf(points), ratios[0], ratios[Math.floor(ratios.length / 2)], ratios.at(-1)].map(times)];
  });
  return fold({ class: "fold-table" }, "As a table", () => h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Ratios of latencies" }, h("table", { class: "plain small" },
    h("thead", {}, h("tr", {}, ["target", "timed", "geometric mean", "fastest", "median", "slowest"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, lines.map(([name, ...cells]) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)), cells.map((cell) => h("td", {}, cell))))))));
}
