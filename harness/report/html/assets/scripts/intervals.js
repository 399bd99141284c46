// The cases of one spec: the median of every target with its interval, and that of eager torch.
const LANE = 11;
const SHOWN_CASES = 25;

function intervals(timed) {
  const rows = [...grouped(timed, (check) => check.case).values()];
  const shown = targets.filter((target) => timed.some((check) => check.target === target));
  const keys = timed.some((check) => check.latency.low_confidence) ? [lowConfidenceKey()] : [];
  return h("div", { class: "inside" }, legend(shown, [eagerKey(), ...keys]),
    paged(rows, SHOWN_CASES, (page) => h("div", {}, intervalChart(page, shown), intervalTable(page))));
}

function intervalChart(rows, shown) {
  return chart("Median latency of each case by target", (width) => {
    const values = rows.flat().flatMap(({ latency }) => [latency.median_us, latency.low_us, latency.high_us, latency.eager_us]);
    const axis = logAxis(values, 10, width - 10);
    const height = 22 + shown.length * LANE + 6;
    const bottom = rows.length * height;
    const content = rows.map((row, at) => intervalRow(row, shown, axis, at * height, height, width));
    return { height: bottom + 22, content: [rows.map((_, at) => (at % 2 ? s("rect", { class: "stripe", y: at * height, width, height }) : null)), gridOf(axis, 0, bottom, duration), content] };
  });
}

function intervalRow(row, shown, axis, top, height, width) {
  const eager = row.map(({ latency }) => latency.eager_us).filter(Boolean).sort((one, other) => one - other);
  const middle = eager[Math.floor(eager.length / 2)];
  const marks = row.map((check) => {
    const { median_us: us, low_us: low, high_us: high, low_confidence: uncertain } = check.latency;
    const y = top + 24 + shown.indexOf(check.target) * LANE;
    const text = `${check.short} on ${check.target}: ${median(check.latency)} ${lowConfidence(check.latency)}`.trim();
    return linked(check, text, low && high ? whisker(check.target, axis.at(low), axis.at(high), y) : null, mark(check.target, axis.at(us), y, 4, uncertain ? "hint" : ""));
  });
  const name = row[0].short;
  const length = Math.floor(width / 7.2);
  return [
    s("text", { class: "mono", x: 2, y: top + 14 }, name.length > length ? `${name.slice(0, length - 3)}...` : name),
    middle ? s("path", { class: "whisker eager", d: `M${axis.at(middle)} ${top + 19}V${top + height - 4}` }, s("title", {}, `eager torch: ${duration(middle)}`)) : null,
    marks,
  ];
}

function intervalTable(rows) {
  return fold({ class: "fold-table" }, "As a table", () => timingTable("case, target", rows.flat().map((check) => [`${check.short}, ${check.target}`, check.latency])));
}
