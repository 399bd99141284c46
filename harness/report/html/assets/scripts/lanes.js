// A table whose rows each have a lane: a figure with its interval on one logarithmic axis, which stays in view above.
// A row is { name, lane, cells, height, links }; `links` says that its marks lead to checks. Or it is
// { head }, a line of its own. Positions are percent of the lane's width.
const LANE_HEIGHT = 22;
const APART = 12;

function laneTable(label, axis, format, columns, groups, behind = () => []) {
  const ticks = axis.ticks.map((tick) => s("text", { x: percent(axis.at(tick)), y: 15, "text-anchor": "middle" }, format(tick)));
  return h("table", { class: "lanes", "aria-label": label },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, columns[0]), h("th", { scope: "col", class: "lane" }, hidden(label), laneOf(LANE_HEIGHT, ticks)),
      columns.slice(1).map((name) => h("th", { scope: "col", class: "figure" }, name)))),
    groups.map((rows) => h("tbody", {}, rows.map((row) => laneRow(row, axis, columns.length + 1, behind)))));
}

function laneRow(row, axis, columns, behind) {
  if (row.head) return h("tr", { class: "of-case" }, h("th", { scope: "rowgroup", colspan: columns }, row.head));
  const grid = axis.ticks.map((tick) => laneTick(axis, tick, "grid"));
  return h("tr", {}, h("th", { scope: "row" }, row.name),
    h("td", { class: "lane" }, laneOf(row.height ?? LANE_HEIGHT, [behind(axis), grid, row.lane(axis)], row.links)),
    row.cells.map((cell) => h("td", { class: "figure" }, cell)));
}

// The other cells of a row have its numbers as text, so a screen reader needs the lane only where it has links.
const laneOf = (height, content, links = false) => s("svg", { class: "lane", width: "100%", height, ...(links ? { role: "group" } : { "aria-hidden": "true" }) }, content);

const laneAxis = (values, options = {}) => logAxis(values, 2, 98, { apart: APART, ...options });

const percent = (place) => `${Math.min(100, Math.max(0, place)).toFixed(2)}%`;

const laneTick = (axis, value, name) => s("line", { class: name, x1: percent(axis.at(value)), x2: percent(axis.at(value)), y1: 0, y2: "100%" });

// A mark and its interval at their places in a lane, `off` pixels below its middle.
function laneMark(target, axis, { at, low, high, hint, off = 0, size = 4.2, more = "" }) {
  const name = `whisker ${seriesClass(target)} ${more}`;
  const [from, to] = [low, high].map((value) => (value > 0 ? percent(axis.at(value)) : null));
  const end = (x) => s("svg", { x, y: "50%", overflow: "visible" }, s("path", { class: name, d: "M0 -3v6" }));
  const whisker = from && to ? [s("line", { class: name, x1: from, x2: to, y1: "50%", y2: "50%" }), end(from), end(to)] : [];
  return s("g", off ? { transform: `translate(0 ${off.toFixed(1)})` } : {}, whisker,
    s("svg", { x: percent(axis.at(at)), y: "50%", overflow: "visible" }, mark(target, 0, 0, size, hint ? "hint" : "")));
}
