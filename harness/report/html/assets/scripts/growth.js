// Latency by input size, for cases that were timed at several sizes: one panel per case and machine, all on one scale.
const PLOT = 250;
const GROWN_AT_ONCE = 6;

function growthCharts(timed) {
  const grown = timed.filter((check) => sized(check).length > 1);
  if (!grown.length) return null;
  const looks = new Set(grown.map((check) => onFirstMachine(check.target)));
  return h("div", {}, legend([...looks], [], withoutMachine),
    paged([...grouped(grown, (check) => check.case)], GROWN_AT_ONCE, (page) => h("div", { class: firstMachine ? "" : "grid-of-charts" }, page.map((one) => growthOf(one, page.flatMap(([, ofCase]) => ofCase))))));
}

const sized = (check) => check.latency.by_shape.filter((one) => one.elements > 0).sort((one, other) => one.elements - other.elements);

function growthOf([name, ofCase], shown) {
  const rows = ofCase.flatMap((check) => check.latency.by_shape.map((one) => [`${check.target} at ${one.shapes}`, one]));
  return h("div", { class: "grown" },
    h("h4", {}, h("code", {}, breakable(name))),
    h("div", { class: "grid-of-charts" }, [...grouped(ofCase, (check) => machineOf(check.target))].map(([machine, onMachine]) => growthPanel(machine, onMachine, shown))),
    fold({ class: "fold-table" }, "As a table", () => timingTable("target, shapes", rows)));
}

const growthPanel = (machine, onMachine, shown) => h("div", { class: "panel" }, machine ? h("p", { class: "muted small" }, `on ${machine}`) : null, growthChart(onMachine, shown));

// The axes cover all of `shown`, so that the panels beside each other can be compared.
function growthChart(onMachine, shown) {
  const points = shown.flatMap(sized);
  return chart("Median latency by the number of elements of the inputs", (width) => {
    const left = 64;
    const x = logAxis(points.map((one) => one.elements), left, width - 12);
    const y = logAxis(points.flatMap((one) => [one.median_us, one.low_us, one.high_us]), PLOT - 8, 14, { apart: 30 });
    const across = y.ticks.map((tick) => [
      s("line", { class: "grid", x1: left, x2: width, y1: y.at(tick), y2: y.at(tick) }),
      s("text", { class: "muted", x: left - 8, y: y.at(tick) + 4, "text-anchor": "end" }, duration(tick)),
    ]);
    return { height: PLOT + 38, content: [
      across, gridOf(x, 8, PLOT, (value) => shortCount(value)),
      s("text", { class: "muted", x: (left + width) / 2, y: PLOT + 33, "text-anchor": "middle" }, "elements of the inputs"),
      onMachine.map((check) => growthCurve(check, x, y)),
    ] };
  });
}

function growthCurve(check, x, y) {
  const points = sized(check);
  const look = onFirstMachine(check.target);
  const path = points.map((one, at) => `${at ? "L" : "M"}${x.at(one.elements).toFixed(1)} ${y.at(one.median_us).toFixed(1)}`).join("");
  return [s("path", { class: `curve ${seriesClass(look)}`, d: path }), points.map((one) => {
    const at = x.at(one.elements);
    const upright = one.low_us && one.high_us ? s("path", { class: `whisker ${seriesClass(look)}`, d: `M${at} ${y.at(one.low_us)}V${y.at(one.high_us)}` }) : null;
    const text = `${check.target} at ${one.shapes}: ${median(one)} ${lowConfidence(one)}`.trim();
    return linked(check, text, upright, mark(look, at, y.at(one.median_us), 4.5, one.low_confidence ? "hint" : ""));
  })];
}

function shortCount(value) {
  const [scale, unit] = value >= 1e9 ? [1e9, "G"] : value >= 1e6 ? [1e6, "M"] : value >= 1e3 ? [1e3, "k"] : [1, ""];
  return `${figure(value / scale)}${unit}`;
}
