// What changed since another report: of the same machine on another day, or of another machine.
const VERDICT_STATUS = { slower: "failed", faster: "passed", inconclusive: "error", "not comparable": "skipped", "no change": "skipped", regressed: "failed", resolved: "passed" };
const CHANGES_AT_ONCE = 40;

function comparison() {
  const diff = packed.comparison;
  if (!diff) return;
  const section = reveal("comparison");
  const machineAndVersions = [...Object.entries(diff.hardware ?? {}), ...Object.entries(diff.versions ?? {})];
  if (machineAndVersions.length) {
    section.append(h("h3", {}, Object.keys(diff.hardware ?? {}).length ? "Another machine" : "Other versions"), changeTable(["name", "before", "now"], machineAndVersions.map(([name, [before, after]]) => [name, before, after])));
  }
  section.append(h("h3", {}, "Parity"), tallyLine(diff.parity_counts, "No check changed."));
  if (diff.parity.length) section.append(paged(diff.parity, CHANGES_AT_ONCE, (page) => changeTable(["change", "case", "target", "before", "now"], page.map(parityRow))));
  section.append(h("h3", {}, "Latency"));
  if (!diff.latency) {
    section.append(h("p", { class: "note" }, "Not compared: the hardware differs."));
    return;
  }
  section.append(tallyLine(diff.latency_counts, "No figure is in both reports."));
  if (diff.latency.length) {
    section.append(h("p", { class: "note" }, `New / old latency with 95 % interval. Changes inside the grey band (${figure(100 * diff.min_effect)} % either way) are ignored.`),
      paged(diff.latency, CHANGES_AT_ONCE, (page) => h("div", {}, changeChart(page, diff.min_effect), fold({ class: "fold-table" }, "As a table", () =>
        changeTable(["change", "case", "target", "at", "before", "now", "ratio", "why"], page.map(latencyRow))))));
  }
}

function tallyLine(counts, none) {
  const entries = Object.entries(counts);
  return entries.length ? h("p", {}, entries.map(([name, many], at) => [at ? ", " : "", verdictTag(name), ` ${many.toLocaleString("en")}`])) : h("p", {}, none);
}

const verdictTag = (name) => h("span", { class: `tag ${VERDICT_STATUS[name] ?? "skipped"}` }, icon(VERDICT_STATUS[name] ?? "skipped"), name);

const parityRow = (one) => [verdictTag(one.kind), caseLink(one), one.target, one.before || "-", [one.after, one.detail].filter(Boolean).join(": ") || "-"];

const latencyRow = (one) => [verdictTag(one.verdict), caseLink(one), one.target, one.shapes || "-", duration(one.before_us), duration(one.after_us), ratioText(one), whyNot(one)];

const ratioText = (one) => `${one.ratio.toFixed(3)}${one.low === null || one.high === null ? "" : ` (${one.low.toFixed(3)} to ${one.high.toFixed(3)})`}`;

const whyNot = (one) => [one.why, one.more_rounds ? `${one.more_rounds.toLocaleString("en")} more rounds would settle it` : ""].filter(Boolean).join("; ");

function caseLink(one) {
  const check = find(one.case, one.target);
  return check ? h("a", { href: addressOf(check) }, h("code", {}, breakable(one.case))) : h("code", {}, breakable(one.case));
}

function changeTable(names, rows) {
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Changes" }, h("table", { class: "plain small" },
    h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell)))))));
}

function changeChart(rows, effect) {
  return chart("New / old latency", (width) => {
    const axis = logAxis([1 - 2 * effect, 1 + 2 * effect, ...rows.flatMap((one) => [one.ratio, one.low, one.high])], 12, width - 12, { least: 0.1 });
    const lane = 34;
    const bottom = 18 + rows.length * lane;
    const band = [axis.at(1 / (1 + effect)), axis.at(1 + effect)];
    return { height: bottom + 24, content: [
      s("rect", { class: "band", x: band[0], width: band[1] - band[0], y: 18, height: bottom - 18 }),
      gridOf(axis, 18, bottom, (value) => `${figure(value)}x`),
      s("line", { class: "one", x1: axis.at(1), x2: axis.at(1), y1: 18, y2: bottom }),
      s("text", { class: "muted", x: axis.at(1) - 6, y: 12, "text-anchor": "end" }, "\u2190 faster"), s("text", { class: "muted", x: axis.at(1) + 6, y: 12 }, "slower \u2192"),
      rows.map((one, at) => changeRow(one, axis, 18 + at * lane, width)),
    ] };
  });
}

function changeRow(one, axis, top, width) {
  const name = `${one.verdict}: ${one.case} on ${one.target}${one.shapes ? ` at ${one.shapes}` : ""}`;
  const length = Math.floor(width / 7.2);
  return [
    s("text", { class: "mono", x: 0, y: top + 13 }, name.length > length ? `${name.slice(0, length - 3)}...` : name),
    one.low === null || one.high === null ? null : whisker(one.target, axis.at(one.low), axis.at(one.high), top + 24),
    s("g", {}, s("title", {}, `${name}: ${ratioText(one)}`), mark(one.target, axis.at(one.ratio), top + 24, 4.5, one.verdict === "slower" || one.verdict === "faster" ? "" : "hint")),
  ];
}
