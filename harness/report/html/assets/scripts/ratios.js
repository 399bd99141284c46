// Ratios of latencies as dots. A row is a target: { name, target, points }. A point is a check:
// { check, ratio, low, high, remark }. The diamond is the geometric mean. A dot has its interval; a heap has none.
const CROWD = 150;
const FEW = 15;
const AROUND_ONE = [0.7, 1.4];
const RATIO_HEIGHT = 44;

const meanOf = (points) => Math.exp(points.reduce((sum, { ratio }) => sum + Math.log(ratio), 0) / points.length);

function ratioChart(label, rows) {
  const axis = laneAxis([...AROUND_ONE, ...rows.flatMap(({ points }) => points.flatMap((point) => [point.ratio, ...ends(point, points)]))]);
  const one = (scale) => laneTick(scale, 1, "one");
  return h("div", { class: "lane-box ratios" }, laneTable(label, axis, times, ["target", "geometric mean", "fastest to slowest", "timed"], [rows.map(ratioRow)], one));
}

// The ends of a point's interval, if they are drawn.
const ends = ({ low, high }, points) => (points.length <= CROWD && low && high ? [low, high] : []);

function ratioRow({ name, target, points }) {
  const ratios = points.map(({ ratio }) => ratio);
  const unsure = points.filter(({ remark }) => remark).length;
  return {
    name: h("code", {}, breakable(name)),
    height: RATIO_HEIGHT,
    links: points.length <= CROWD,
    lane: (axis) => [
      points.length > CROWD ? heap(target, points, axis) : dots(target, points, axis),
      points.length > 1 ? s("svg", { x: percent(axis.at(meanOf(points))), y: "50%", overflow: "visible" }, s("path", { class: "mark mean", d: "M0 -9l5 9l-5 9l-5 -9z" })) : null,
    ],
    cells: [times(meanOf(points)), `${times(Math.min(...ratios))} to ${times(Math.max(...ratios))}`,
      [count(points.length, "case"), unsure ? h("small", { class: "muted block" }, `${unsure.toLocaleString("en")} with low confidence`) : null]],
  };
}

// Each interval of a few has its own height; dots that would overlap are placed above and below in turns.
function dots(target, points, axis) {
  const taken = new Map();
  const step = points.length <= FEW ? Math.min(6, 28 / points.length) : 0;
  return points.map((point, nth) => {
    const { check, ratio, low, high, remark } = point;
    const place = Math.round(axis.at(ratio));
    const before = taken.get(place) ?? 0;
    taken.set(place, before + 1);
    const off = step ? (nth - (points.length - 1) / 2) * step : Math.min(15, Math.ceil(before / 2) * 4) * (before % 2 ? 1 : -1);
    const text = `${check.case}: ${times(ratio)}${between(low, high, times)} ${remark}`.trim();
    const [from, to] = ends(point, points);
    return linked(check, text, laneMark(target, axis, { at: ratio, low: from, high: to, hint: remark, off, size: 3.6, more: points.length > FEW ? "faint" : "" }));
  });
}

// A histogram, if there are too many points for dots.
function heap(target, points, axis) {
  const bins = grouped(points, ({ ratio }) => Math.floor(axis.at(ratio)));
  const most = Math.max(...[...bins.values()].map((bin) => bin.length));
  return [...bins].map(([place, bin]) => {
    const height = Math.max(2, ((RATIO_HEIGHT - 10) * bin.length) / most);
    return s("rect", { class: `mark heap ${seriesClass(target)}`, x: `${place + 0.1}%`, width: "0.8%", y: RATIO_HEIGHT - 4 - height, height }, s("title", {}, count(bin.length, "case")));
  });
}
