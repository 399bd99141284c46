// The errors of the outputs: for each layer and target, a histogram of each check's largest error.
const MEASURES = [
  { name: "ULP", unit: "ulp", at: 0, base: 4, lowest: 0, bins: 13 },
  { name: "absolute", unit: "", at: 1, base: 10, lowest: -12, bins: 15 },
  { name: "relative", unit: "", at: 2, base: 10, lowest: -12, bins: 13 },
];

function spread() {
  const compared = checks.filter((check) => check.apart);
  if (!compared.length) return;
  const section = reveal("errors");
  const table = h("table", { class: "spread" });
  const draw = (measure) => table.replaceChildren(...spreadRows(compared, measure));
  const options = MEASURES.map((measure, at) =>
    h("label", {}, h("input", { type: "radio", name: "measure", checked: at === 0, onchange: () => draw(measure) }), " ", measure.name));
  section.append(
    h("p", { class: "note" }, "Histogram of each check's largest error (log scale), from the left: ",
      key("exact"), " exact, ", key("within"), " within the tolerance, ", key("outside"), " differs from the reference. ",
      "The number below is the largest error, with a link to its check."),
    h("fieldset", { class: "measures" }, h("legend", {}, "Error"), options),
    h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Errors by layer and target" }, table));
  draw(MEASURES[0]);
}

const key = (name) => s("svg", { class: "key", viewBox: "0 0 22 14", "aria-hidden": "true" }, s("rect", { class: name, width: 22, height: 14 }));

function spreadRows(compared, measure) {
  const shown = targets.filter((target) => compared.some((check) => check.target === target));
  const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "layer"), shown.map((target) => h("th", { scope: "col" }, breakable(target)))));
  const rows = [...grouped(compared, (check) => check.spec)].map(([spec, ofSpec]) => {
    const byTarget = grouped(ofSpec, (check) => check.target);
    return h("tr", {}, h("th", { scope: "row" }, h("code", {}, breakable(spec || "cases"))), shown.map((target) => h("td", {}, histogram(byTarget.get(target) ?? [], measure))));
  });
  const ends = [binStart(measure, 1), binStart(measure, measure.bins - 1)].map((value) => figure(value));
  const foot = h("tfoot", {}, h("tr", {}, h("th", { scope: "row", class: "muted small" }, "bars"), h("td", { class: "muted small", colspan: shown.length },
    `0, then from ${ends[0]} to ${ends[1]} ${measure.unit} and more, \u00d7 ${measure.base} per bar`)));
  return [head, h("tbody", {}, rows), foot];
}

// The errors that a bar counts. The second bar has all that are below the third, and the last bar all above it.
function rangeOf(bin, measure) {
  if (bin === 0) return "exact";
  const [from, to] = [bin, bin + 1].map((place) => `${figure(binStart(measure, place))} ${measure.unit}`.trim());
  if (bin === measure.bins - 1) return `${from} and more`;
  return bin === 1 ? `below ${to}` : `${from} to ${to}`;
}

const binStart = (measure, bin) => measure.base ** (measure.lowest + bin - 1);

function binOf(error, measure) {
  if (error === 0) return 0;
  if (!Number.isFinite(error)) return measure.bins - 1;
  const place = Math.floor(Math.log(error) / Math.log(measure.base) + 1e-9) - measure.lowest + 1;
  return Math.min(Math.max(place, 1), measure.bins - 1);
}

function histogram(ofTarget, measure) {
  const measured = ofTarget.map((check) => ({ check, error: real(check.apart[measure.at]) })).filter(({ error }) => error !== null);
  if (!measured.length) return h("span", { class: "muted small" }, ofTarget.length ? "no numbers" : "-");
  const bins = Array.from({ length: measure.bins }, () => ({ good: 0, bad: 0 }));
  for (const { check, error } of measured) bins[binOf(error, measure)][check.status === "passed" || check.status === "fixed" ? "good" : "bad"] += 1;
  const most = Math.max(...bins.map(({ good, bad }) => good + bad));
  const bars = bins.flatMap((bin, at) => bar(at, bin, most, measure));
  const { check, error } = measured.reduce((one, other) => (other.error > one.error ? other : one));
  const exact = bins[0].good + bins[0].bad;
  const label = exact === measured.length ? "all exact" : `max ${figure(error)} ${measure.unit}`.trim();
  const image = `${exact} of ${measured.length} exact, the largest ${figure(error)} ${measure.unit}`.trim();
  return [
    s("svg", { viewBox: `0 0 ${measure.bins * 8} 34`, preserveAspectRatio: "none", role: "img", "aria-label": image }, s("line", { class: "floor", x1: 0, x2: measure.bins * 8, y1: 33.5, y2: 33.5 }), bars),
    h("div", { class: "told" }, exact === measured.length ? label : h("a", { href: addressOf(check) }, label), h("span", { class: "muted" }, ` of ${measured.length}`)),
  ];
}

// The height is the square root of the count, so that one check among a thousand is visible.
function bar(at, { good, bad }, most, measure) {
  if (!good && !bad) return [];
  const whole = Math.max(3, 31 * Math.sqrt((good + bad) / most));
  const upper = (whole * bad) / (good + bad);
  const box = (name, y, height) => (height > 0 ? s("rect", { class: name, x: at * 8 + 1, width: 6, y, height }) : null);
  const title = `${rangeOf(at, measure)}: ${count(good + bad, "check")}${bad ? `, ${bad} different from the reference` : ""}`;
  return s("g", {}, s("title", {}, title), box(at === 0 ? "exact" : "within", 33 - whole + upper, whole - upper), box("outside", 33 - whole, upper));
}
