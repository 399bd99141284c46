// Cases with the median of every target, the slowest first: whole models and their layers in one list, on one axis.
const SLOWEST = 10;
const LANES_AT_ONCE = 90;

function slowest(timed) {
  const longest = (ofCase) => Math.max(...ofCase.map(({ latency }) => latency.median_us));
  const cases = [...grouped(timed, (check) => check.case).values()].sort((one, other) => longest(other) - longest(one));
  const axis = laneAxis(timed.flatMap(({ latency }) => [latency.median_us, latency.low_us, latency.high_us, latency.eager_us]));
  return [
    legend([], eagerKey()),
    paged(cases, Math.max(3, Math.min(SLOWEST, Math.floor(LANES_AT_ONCE / targets.length))), (page) => h("div", { class: "lane-box slowest" }, laneTable("Median latency (log scale)", axis, duration,
      ["case, target", "median", "95 % interval", "ratio to eager"], page.map((ofCase) => rowsOfCase(ofCase))))),
  ];
}

const rowsOfCase = (ofCase) => [
  { head: h("code", {}, breakable(ofCase[0].case)) },
  ...targets.flatMap((target) => ofCase.filter((check) => check.target === target)).map(timedRow),
];

function timedRow(check) {
  const { latency: timed } = check;
  const place = { at: timed.median_us, low: timed.low_us, high: timed.high_us, hint: timed.low_confidence };
  return {
    name: h("a", { href: addressOf(check), "aria-label": `${check.case} on ${check.target}` }, h("code", {}, breakable(check.target))),
    lane: (axis) => [timed.eager_us ? laneTick(axis, timed.eager_us, "whisker eager") : null, laneMark(check.target, axis, place)],
    cells: [duration(timed.median_us), timed.low_us ? `${duration(timed.low_us)} to ${duration(timed.high_us)}` : "-", againstEager(timed) || "-"],
  };
}
