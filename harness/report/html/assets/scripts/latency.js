// The latency section: against eager, one machine against another, by size, then case by case.
function latency() {
  const timed = checks.filter((check) => check.latency);
  if (!timed.length) return;
  const section = reveal("latency");
  section.append(h("p", { class: "note" }, "Medians with the interval that holds them with 95% confidence. Eager torch was timed on the same inputs in the same rounds. ",
    "A figure that says of itself that it is no more than a hint is drawn hollow; its check says why."));
  ratios(section, "As a multiple of eager torch", againstEagerTorch(timed), "quicker than eager");
  if (firstMachine) ratios(section, `As a multiple of ${firstMachine}`, acrossMachines(timed), "quicker than there",
    "The interval of each is made of the ends of two of 95%, so that it holds the ratio with at least 90% confidence.");
  const growth = growthCharts(timed);
  if (growth) section.append(h("h3", {}, "By the size of the input"), growth);
  section.append(h("h3", {}, "Case by case"), ...[...grouped(timed, (check) => check.spec)].map(([spec, own]) =>
    fold({ class: "fold" }, [h("code", {}, spec || "cases"), " ", h("span", { class: "muted" }, count(new Set(own.map((check) => check.case)).size, "case"))], () => intervals(own))));
}

function ratios(section, title, rows, quicker, note) {
  if (rows.length) section.append(h("h3", {}, title), ...(note ? [h("p", { class: "note" }, note)] : []), ratioChart(title, rows, quicker), ratioTable(rows));
}

function againstEagerTorch(timed) {
  const byTarget = grouped(timed.filter((check) => check.latency.ratio > 0), (check) => check.target);
  return targets.filter((target) => byTarget.has(target)).map((target) => ({ name: target, target, points: byTarget.get(target).map((check) => ({
    check, ratio: check.latency.ratio, low: check.latency.ratio_low, high: check.latency.ratio_high, remark: hint(check.latency),
  })) }));
}
