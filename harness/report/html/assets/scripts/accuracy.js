// How exact the outputs are: for each spec and target, a histogram of each check's largest error.
const MEASURES = [
  { name: "ULP", unit: "ulp", at: 0, base: 4, lowest: 0, bins: 13 },
  { name: "absolute", unit: "", at: 1, base: 10, lowest: -12, bins: 15 },
  { name: "relative", unit: "", at: 2, base: 10, lowest: -12, bins: 13 },
];
const WIDE = 8;
const TALL = 31;
const LEAST = 3;
const LEAST_OF_A_FAILURE = 12;

function accuracy() {
  const compared = checks.filter((check) => check.apart);
  if (!compared.length) return;
  const section = reveal("accuracy");
  const table = h("table", { class: "spread" });
  table.style.setProperty("--columns", targets.filter((target) => compared.some((check) => check.target === target)).length);
  const draw = (measure) => table.replaceChildren(...accuracyRows(compared, measure));
  const options = MEASURES.map((measure, at) =>
    h("label", {}, h("input", { type: "radio", name: "measure", checked: at === 0, onchange: () => draw(measure) }), " ", measure.name));
  section.append(
    h("p", { class: "note" }, "Histogram of each check's largest error (log scale), from the left: ",
      key("exact"), " exact, ", key("within"), " within the tolerance, ", key("outside"), " fails. ",
      "The last bar counts what no tolerance would pass: a lost NaN or infinity, another shape. The number below is the largest error, with a link to its check."),
    h("fieldset", { class: "measures" }, h("legend", {}, "Error"), options),
    scrolled("Accuracy by spec and target", table));
  draw(MEASURES[0]);
}

const key = (name) => s("svg", { class: "key", viewBox: "0 0 22 14", "aria-hidden": "true" }, s("rect", { class: name, width: 22, height: 14 }));

// Specs in which every check is exact are one row, which a button opens.
function accuracyRows(compared, measure) {
  const shown = targets.filter((target) => compared.some((check) => check.target === target));
  const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "spec"), shown.map((target) => h("th", { scope: "col" }, breakable(target)))));
  const specsOf = [...grouped(compared, (check) => check.spec)];
  const isExact = ([, ofSpec]) => ofSpec.every((check) => check.apart[measure.at] === 0 && isGood(check));
  const [exact, other] = [specsOf.filter(isExact), specsOf.filter((one) => !isExact(one))];
  const row = ([spec, ofSpec]) => {
    const byTarget = grouped(ofSpec, (check) => check.target);
    return h("tr", {}, h("th", { scope: "row" }, h("code", {}, breakable(spec || "cases"))), shown.map((target) => h("td", {}, histogram(byTarget.get(target) ?? [], measure))));
  };
  const ends = [binStart(measure, 1), binStart(measure, measure.bins - 1)].map((value) => figure(value));
  const foot = h("tfoot", {}, h("tr", {}, h("th", { scope: "row", class: "muted small" }, "bars"), h("td", { class: "muted small", colspan: shown.length },
    `0, then from ${ends[0]} to ${ends[1]} ${measure.unit} and more, \u00d7 ${measure.base} per bar, then beyond any tolerance`)));
  if (exact.length < 2) return [head, h("tbody", {}, specsOf.map(row)), foot];
  return [head, h("tbody", {}, other.map(row)), exactRows(exact, shown.length, row), foot];
}

const isGood = (check) => check.status === "passed" || check.status === "fixed";

function exactRows(exact, columns, row) {
  const rows = h("tbody");
  const total = exact.reduce((sum, [, ofSpec]) => sum + ofSpec.length, 0);
  const button = h("button", { class: "head", type: "button", "aria-expanded": "false" }, icon("open"), `${count(exact.length, "spec")}: ${count(total, "check")}, all exact`);
  const folded = h("tr", { class: "all-exact" }, h("th", { scope: "row", colspan: columns + 1 }, button));
  button.addEventListener("click", () => {
    const opened = button.getAttribute("aria-expanded") === "false";
    button.setAttribute("aria-expanded", String(opened));
    rows.replaceChildren(folded, ...(opened ? exact.map(row) : []));
    button.focus();
  });
  rows.append(folded);
  return rows;
}

// The errors that a bar counts. The second bar has all that are below the third; the last one counts lost values.
function rangeOf(bin, measure) {
  if (bin === 0) return "exact";
  if (bin === measure.bins) return "no tolerance would pass";
  const [from, to] = [bin, bin + 1].map((place) => `${figure(binStart(measure, place))} ${measure.unit}`.trim());
  if (bin === measure.bins - 1) return `${from} and more`;
  return bin === 1 ? `below ${to}` : `${from} to ${to}`;
}

const binStart = (measure, bin) => measure.base ** (measure.lowest + bin - 1);

function binOf(error, measure) {
  if (error === 0) return 0;
  if (!Number.isFinite(error)) return measure.bins;
  const place = Math.floor(Math.log(error) / Math.log(measure.base) + 1e-9) - measure.lowest + 1;
  return Math.min(Math.max(place, 1), measure.bins - 1);
}

function histogram(ofTarget, measure) {
  const measured = ofTarget.map((check) => ({ check, error: real(check.apart[measure.at]) })).filter(({ error }) => error !== null);
  if (!measured.length) return h("span", { class: "muted small" }, ofTarget.length ? "no numbers" : "-");
  const bins = Array.from({ length: measure.bins + 1 }, () => ({ good: 0, bad: 0 }));
  for (const { check, error } of measured) bins[binOf(error, measure)][isGood(check) ? "good" : "bad"] += 1;
  const most = Math.max(...bins.map(({ good, bad }) => good + bad));
  const bars = bins.flatMap((bin, at) => bar(at, bin, most, measure));
  const { check, error } = measured.reduce((one, other) => (other.error > one.error || Number.isNaN(other.error) ? other : one));
  const exact = bins[0].good + bins[0].bad;
  const lost = bins[measure.bins].good + bins[measure.bins].bad;
  const farthest = lost ? `${lost.toLocaleString("en")} beyond any tolerance` : `max ${figure(error)} ${measure.unit}`.trim();
  const [label, rest] = exact === measured.length ? [measured.length > 1 ? `all ${measured.length.toLocaleString("en")} exact` : "exact", ""] : [farthest, ` of ${measured.length.toLocaleString("en")}`];
  const width = (measure.bins + 1) * WIDE;
  return [
    s("svg", { viewBox: `0 0 ${width} 34`, preserveAspectRatio: "none", role: "img", "aria-label": `${exact} of ${measured.length} exact, ${farthest}` }, s("line", { class: "floor", x1: 0, x2: width, y1: 33.5, y2: 33.5 }), bars),
    h("div", { class: "told" }, rest ? [h("a", { href: addressOf(check) }, label), h("span", { class: "muted" }, rest)] : label),
  ];
}

// The height is the square root of the count, so that one check among a thousand is visible, and a failure more so.
function bar(at, { good, bad }, most, measure) {
  if (!good && !bad) return [];
  const whole = Math.max(bad ? LEAST_OF_A_FAILURE : LEAST, TALL * Math.sqrt((good + bad) / most));
  const upper = bad && Math.min(whole, Math.max(LEAST_OF_A_FAILURE, (whole * bad) / (good + bad)));
  const box = (name, y, height) => (height > 0 ? s("rect", { class: name, x: at * WIDE + 1, width: WIDE - 2, y, height }) : null);
  const title = `${rangeOf(at, measure)}: ${count(good + bad, "check")}${bad ? `, ${bad} different from the reference` : ""}`;
  return s("g", {}, s("title", {}, title), box(at === 0 ? "exact" : "within", 33 - whole + upper, whole - upper), box("outside", 33 - whole, upper));
}
