// Each target against eager torch: a dot a case, and the geometric mean of them all.
const CROWD = 150;

function ratioChart(timed) {
  const withRatio = timed.filter((check) => check.latency.ratio > 0);
  const shown = targets.filter((target) => withRatio.some((check) => check.target === target));
  const byTarget = grouped(withRatio, (check) => check.target);
  return chart("How long each target takes, as a multiple of eager torch", (width) => {
    const axis = logAxis([1, ...withRatio.map((check) => check.latency.ratio)], 8, width - 8);
    const [height, wide] = width > 560 ? [58, true] : [74, false];
    const bottom = 22 + shown.length * height;
    const rows = shown.map((target, at) => ratioRow(target, byTarget.get(target), axis, 22 + at * height, wide && width));
    return { height: bottom + 24, content: [
      s("text", { class: "muted", x: axis.at(1) - 6, y: 12, "text-anchor": "end" }, "\u2190 quicker than eager"),
      s("text", { class: "muted", x: axis.at(1) + 6, y: 12 }, "slower \u2192"),
      gridOf(axis, 20, bottom, times), s("line", { class: "one", x1: axis.at(1), x2: axis.at(1), y1: 2, y2: bottom }), rows,
    ] };
  });
}

function ratioRow(target, own, axis, top, wide) {
  const mean = Math.exp(own.reduce((sum, check) => sum + Math.log(check.latency.ratio), 0) / own.length);
  const hints = own.filter((check) => check.latency.quotable === false).length;
  const told = `geometric mean ${times(mean)} of ${own.length.toLocaleString("en")}${hints ? `, ${count(hints, "hint")}` : ""}`;
  const middle = top + (wide ? 40 : 56);
  return [
    s("text", { class: "mono", x: 0, y: top + 14 }, target),
    s("text", { class: "muted", x: wide || 0, y: wide ? top + 14 : top + 27, "text-anchor": wide ? "end" : "start" }, told),
    own.length > CROWD ? heaps(target, own, axis, middle + 12) : dots(target, own, axis, middle),
    s("path", { class: "mark mean", d: `M${axis.at(mean)} ${middle - 9}l5 9l-5 9l-5 -9z` }, s("title", {}, told)),
  ];
}

// Dots that would cover each other are put one above and one below in turns.
function dots(target, own, axis, middle) {
  const taken = new Map();
  return own.map((check) => {
    const { ratio, ratio_low: low, ratio_high: high, quotable } = check.latency;
    const place = Math.round(axis.at(ratio) / 8);
    const nth = taken.get(place) ?? 0;
    taken.set(place, nth + 1);
    const off = Math.min(12, Math.ceil(nth / 2) * 4) * (nth % 2 ? 1 : -1);
    const text = `${check.case}: ${times(ratio)}${between(low, high, times)} ${hint(check.latency)}`.trim();
    return linked(check, text, mark(target, axis.at(ratio), middle + off, 3.6, quotable === false ? "hint" : ""));
  });
}

// Where there are too many for dots: how many there are, bin by bin.
function heaps(target, own, axis, floor) {
  const bins = grouped(own, (check) => Math.floor(axis.at(check.latency.ratio) / 6));
  const most = Math.max(...[...bins.values()].map((bin) => bin.length));
  return [...bins].map(([place, bin]) => {
    const height = Math.max(2, (24 * bin.length) / most);
    return s("rect", { class: `mark heap ${seriesClass(target)}`, x: place * 6 + 0.5, width: 5, y: floor - height, height }, s("title", {}, count(bin.length, "case")));
  });
}
