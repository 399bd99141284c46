// Names, numbers and links, as all parts of the page write them.
const STATUS_WORD = { passed: "pass", failed: "FAILED", error: "ERROR", known: "known", fixed: "FIXED", skipped: "skipped" };

const addressOf = (check) => `#${new URLSearchParams({ check: check.case, on: check.target })}`;

const count = (number, noun, nouns = `${noun}s`) => `${number.toLocaleString("en")} ${number === 1 ? noun : nouns}`;

function figure(value, digits = 3) {
  if (value === null || value === undefined) return "-";
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (Number.isInteger(value) && Math.abs(value) < 1e7) return value.toLocaleString("en");
  const size = Math.abs(value);
  return size !== 0 && (size < 1e-3 || size >= 1e7)
    ? Number(value.toPrecision(digits)).toExponential().replace("e+", "e")
    : String(Number(value.toPrecision(digits)));
}

// Two values with four significant digits, or with as many more as it takes to tell them apart.
function figurePair(one, other) {
  let texts;
  for (let digits = 4; digits <= 17; digits += 1) {
    texts = [figure(one, digits), figure(other, digits)];
    if (one === other || texts[0] !== texts[1]) break;
  }
  return texts;
}

function duration(us) {
  if (us === null || us === undefined) return "-";
  const [scale, unit] = us < 1e3 ? [1, "\u00b5s"] : us < 1e6 ? [1e3, "ms"] : [1e6, "s"];
  return `${figure(us / scale)} ${unit}`;
}

const times = (ratio) => (ratio === null || ratio === undefined ? "-" : `${figure(ratio, ratio < 10 ? 2 : 3)}x`);

// The outcome of a check beyond its status: how it failed, and the blame.
function detailOf(check) {
  if (check.status === "passed" || check.status === "fixed") return "";
  const parts = check.status === "failed" ? [check.symptom, check.blame] : [check.stage, check.symptom];
  return parts.filter(Boolean).join(check.status === "failed" ? ", " : ": ");
}

const outcomeOf = (check) => [STATUS_WORD[check.status], detailOf(check)].filter(Boolean).join(", ");

const tag = (check) => h("span", { class: `tag ${check.status}` }, icon(check.status), STATUS_WORD[check.status]);

const link = (text) => (/^https?:\/\/\S+$/.test(text) ? h("a", { href: text, rel: "noreferrer" }, text) : text);
