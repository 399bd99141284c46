// The latency section: compared with eager torch, machines compared with each other, by input size, then the slowest.
function latency() {
  const timed = checks.filter((check) => check.latency);
  if (!timed.length) return;
  const section = reveal("latency");
  section.append(h("p", { class: "note" }, "Medians with 95 % interval. Eager torch was timed on the same inputs in the same rounds."));
  if (timed.some(isUnsure)) section.append(legend([], lowConfidenceKey()));
  ratios(section, "Ratio to eager torch", againstEagerTorch(timed), "Below 1x is faster than eager.");
  if (firstMachine) ratios(section, `Ratio to ${firstMachine}`, acrossMachines(timed),
    "Each interval is built from two 95 % intervals, so that its confidence is at least 90 %.");
  const growth = growthCharts(timed);
  if (growth) section.append(h("h3", {}, "By input size"), growth);
  section.append(h("h3", {}, "The slowest cases first"), ...slowest(timed));
  packed.model_times.forEach((times) => section.append(...besideWholeModel(times)));
}

// The layers that harness scan wrote cases for: count x latency, their sum, and the whole model.
function besideWholeModel(times) {
  const title = `Layers of ${times.spec}: count x latency in microseconds, and the share of their sum`;
  return [h("h3", {}, title), scrolled(title, h("table", { class: "plain small" },
    h("thead", {}, h("tr", {}, ["case", "count", ...times.targets].map((name) => h("th", { scope: "col" }, breakable(name))))),
    h("tbody", {}, times.rows.map(([name, count, cells]) => h("tr", {},
      h("th", { scope: "row" }, breakable(name)), [count || "-", ...cells].map((text) => h("td", {}, text)))))))];
}

// A figure with low confidence, of the check or of one of its shapes, has a hollow mark.
const isUnsure = ({ latency: { low_confidence, by_shape } }) => Boolean(low_confidence) || by_shape.some((one) => one.low_confidence);

function ratios(section, title, rows, note) {
  if (rows.length) section.append(h("h3", {}, title), h("p", { class: "note" }, note), ratioChart(title, rows));
}

function againstEagerTorch(timed) {
  const byTarget = grouped(timed.filter((check) => check.latency.ratio > 0), (check) => check.target);
  return targets.filter((target) => byTarget.has(target)).map((target) => ({ name: target, target, points: byTarget.get(target).map((check) => ({
    check, ratio: check.latency.ratio, low: check.latency.ratio_low, high: check.latency.ratio_high, remark: lowConfidence(check.latency),
  })) }));
}
