// What changed since another report: of the same machine on another day, or of another machine.
const VERDICT_STATUS = { slower: "failed", faster: "passed", inconclusive: "error", "not comparable": "skipped", "no change": "skipped", regressed: "failed", resolved: "passed" };
const CHANGES_AT_ONCE = 40;
const MOST_CHANGED = 10;

function comparison() {
  const diff = packed.comparison;
  if (!diff) return;
  const section = reveal("comparison");
  const machineAndVersions = [...Object.entries(diff.hardware ?? {}), ...Object.entries(diff.versions ?? {})];
  if (machineAndVersions.length) {
    section.append(h("h3", {}, Object.keys(diff.hardware ?? {}).length ? "Another machine" : "Other versions"), changeTable(["name", "before", "now"], machineAndVersions.map(([name, [before, after]]) => [name, before, after])));
  }
  section.append(h("h3", {}, "Parity"), tallyLine(diff.parity_counts, "No check changed."));
  if (diff.parity.length) section.append(paged(diff.parity, CHANGES_AT_ONCE, (page) => changeTable(["change", "before", "now"], page.map(parityRow))));
  section.append(h("h3", {}, "Latency, the most changed first"));
  if (!diff.latency) {
    section.append(h("p", { class: "note" }, "Not compared: the hardware differs."));
    return;
  }
  section.append(tallyLine(diff.latency_counts, "No figure is in both reports."));
  if (diff.latency.length) {
    section.append(h("p", { class: "note" }, `New / old latency with 95 % interval. Changes inside the grey band (${figure(100 * diff.min_effect)} % either way) are ignored.`),
      changesInLanes(diff.latency, diff.min_effect));
  }
}

function tallyLine(counts, none) {
  const entries = Object.entries(counts);
  return entries.length ? h("p", {}, entries.map(([name, many], at) => [at ? ", " : "", verdictTag(name), ` ${many.toLocaleString("en")}`])) : h("p", {}, none);
}

const verdictTag = (name) => h("span", { class: `tag ${VERDICT_STATUS[name] ?? "skipped"}` }, icon(VERDICT_STATUS[name] ?? "skipped"), name);

const parityRow = (one) => [[verdictTag(one.kind), " ", caseLink(one), onTarget(one)], one.before || "-", [one.after, one.detail].filter(Boolean).join(": ") || "-"];

const onTarget = (one) => h("small", { class: "muted block" }, `on ${one.target}${one.shapes ? ` at ${one.shapes}` : ""}`);

const ratioText = (one) => `${one.ratio.toFixed(3)}${one.low === null || one.high === null ? "" : ` (${one.low.toFixed(3)} to ${one.high.toFixed(3)})`}`;

const whyNot = (one) => [one.why, one.more_rounds ? `${one.more_rounds.toLocaleString("en")} more rounds would settle it` : ""].filter(Boolean).join("; ");

function caseLink(one) {
  const check = find(one.case, one.target);
  return check ? h("a", { href: addressOf(check) }, h("code", {}, breakable(one.case))) : h("code", {}, breakable(one.case));
}

function changeTable(names, rows) {
  return scrolled("Changes", h("table", { class: "plain small" },
    h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell)))))));
}

// Those that differ for certain come first, then by the size of the change.
function changesInLanes(changes, effect) {
  const axis = laneAxis([1 - 2 * effect, 1 + 2 * effect, ...changes.flatMap((one) => [one.ratio, one.low, one.high])], { least: 0.1 });
  const behind = (scale) => {
    const [from, to] = [1 / (1 + effect), 1 + effect].map((value) => scale.at(value));
    return [s("rect", { class: "band", x: percent(from), width: percent(to - from), y: 0, height: "100%" }), laneTick(scale, 1, "one")];
  };
  return paged(changes, MOST_CHANGED, (page) => h("div", { class: "lane-box changed" }, laneTable("New / old latency (log scale)", axis, (value) => `${figure(value)}x`,
    ["change", "before", "now", "new / old"], [page.map(changeRow)], behind)));
}

function changeRow(one) {
  const place = { at: one.ratio, low: one.low, high: one.high, hint: one.verdict !== "slower" && one.verdict !== "faster" };
  return {
    name: [verdictTag(one.verdict), " ", caseLink(one), onTarget(one), whyNot(one) ? h("small", { class: "muted block" }, whyNot(one)) : null],
    lane: (axis) => laneMark(one.target, axis, place),
    cells: [duration(one.before_us), duration(one.after_us), ratioText(one)],
  };
}
