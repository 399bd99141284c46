// The latency of one check as text: every figure has its interval, and low confidence is stated.
const between = (low, high, unit) => (low === undefined || high === undefined ? "" : ` (${unit(low)} to ${unit(high)})`);

const median = (timed) => duration(timed.median_us) + between(timed.low_us, timed.high_us, duration);

const againstEager = (timed) => (timed.ratio === undefined ? "" : times(timed.ratio) + between(timed.ratio_low, timed.ratio_high, times));

const lowConfidence = (timed) => (timed.low_confidence ? "low confidence" : "");

function timingOf(check) {
  const timed = check.latency;
  if (!timed) return null;
  const lines = [
    ["median, 95 % interval", median(timed)],
    ["ratio to eager", againstEager(timed)],
    ["eager torch", timed.eager_us ? duration(timed.eager_us) : ""],
    ["90th, 99th percentile", [timed.p90_us, timed.p99_us].filter(Boolean).map(duration).join(", ")],
    ["first call", timed.first_call_us ? duration(timed.first_call_us) : ""],
    ["load, first run", [timed.load_s, timed.first_run_s].filter(Boolean).map((seconds) => duration(seconds * 1e6)).join(", ")],
    ["samples", `${timed.samples ?? "-"} of ${timed.batch ?? 1} calls, in ${count(timed.processes ?? 1, "process", "processes")}`],
    ["measured under", Object.entries(timed.conditions).map(([name, value]) => `${name.replaceAll("_", " ")} ${value}`).join(", ")],
    ["notes", [lowConfidence(timed), ...(timed.notes ?? [])].filter(Boolean).join("; ")],
  ].filter(([, value]) => value);
  const further = [
    ...timed.by_shape.map((one) => [one.shapes, one]),
    ...Object.entries(timed.beside),
  ];
  return [
    h("table", { class: "plain" }, h("tbody", {}, lines.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, value))))),
    further.length ? timingTable("at", further) : null,
  ];
}

function timingTable(what, rows) {
  return scrolled("Latency figures", h("table", { class: "plain small" },
    h("thead", {}, h("tr", {}, [what, "median, 95 % interval", "ratio to eager", "remark"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map(([name, one]) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)), [median(one), againstEager(one), lowConfidence(one)].map((text) => h("td", {}, text)))))));
}
