// The latency section: against eager, by size, then case by case.
function latency() {
  const timed = checks.filter((check) => check.latency);
  if (!timed.length) return;
  const section = reveal("latency");
  section.append(h("p", { class: "note" }, "Medians with the interval that holds them with 95% confidence. Eager torch was timed on the same inputs in the same rounds. ",
    "A figure that says of itself that it is no more than a hint is drawn hollow; its check says why."));
  if (timed.some((check) => check.latency.ratio > 0)) {
    const shown = targets.filter((target) => timed.some((check) => check.target === target && check.latency.ratio > 0));
    section.append(h("h3", {}, "As a multiple of eager torch"), ratioChart(timed), ratioTable(timed, shown));
  }
  const growth = growthCharts(timed);
  if (growth) section.append(h("h3", {}, "By the size of the input"), growth);
  section.append(h("h3", {}, "Case by case"), ...[...grouped(timed, (check) => check.spec)].map(([spec, own]) =>
    fold({ class: "fold" }, [h("code", {}, spec || "cases"), " ", h("span", { class: "muted" }, count(new Set(own.map((check) => check.case)).size, "case"))], () => intervals(own))));
}

function ratioTable(timed, shown) {
  const rows = shown.map((target) => {
    const ratios = timed.filter((check) => check.target === target && check.latency.ratio > 0).map((check) => check.latency.ratio).sort((one, other) => one - other);
    const mean = Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length);
    return [target, count(ratios.length, "case"), times(mean), times(ratios[0]), times(ratios[Math.floor(ratios.length / 2)]), times(ratios.at(-1))];
  });
  return fold({ class: "fold-table" }, "As a table", () => h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Ratios to eager torch" }, h("table", { class: "plain small" },
    h("thead", {}, h("tr", {}, ["target", "timed", "geometric mean", "quickest", "median", "slowest"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map(([target, ...cells]) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, target)), cells.map((cell) => h("td", {}, cell))))))));
}
