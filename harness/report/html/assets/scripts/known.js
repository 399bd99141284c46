// Checks with the same text in one fold: reasons of known failures, remarks on passes, reasons of skipped checks.
const LISTED = 100;

function knownFolds() {
  const known = checks.filter((check) => check.status === "known");
  folds("known", known, grouped(known, (check) => check.reason ?? "no reason given"));
}

function skippedFolds() {
  const skipped = checks.filter((check) => check.status === "skipped");
  folds("skipped", skipped, grouped(skipped, (check) => check.line ?? check.happened ?? "no reason given"));
}

function remarkFolds() {
  const pairs = checks.filter((check) => check.status === "passed").flatMap((check) => remarksOn(check).map((remark) => ({ remark, check })));
  const groups = new Map([...grouped(pairs, ({ remark }) => remark)].map(([remark, alike]) => [remark, alike.map(({ check }) => check)]));
  folds("remarks", new Set(pairs.map(({ check }) => check)), groups);
}

function remarksOn(check) {
  const at = packed.numbers.indexOf("inconclusive");
  const remarks = (check.numbers ?? []).map((output) => output[at]).filter(Boolean).map((why) => `inconclusive: ${why}`);
  const notes = (check.notes ?? []).filter((note) => !remarks.some((remark) => remark.includes(note)));
  return [...new Set([...remarks, ...(check.checker ? [`onnx.checker: ${check.checker}`] : []), ...notes])];
}

function folds(id, all, groups) {
  const total = all.length ?? all.size;
  if (!total) return;
  reveal(id, total).append(...[...groups].sort(([, one], [, other]) => other.length - one.length).map(([text, alike]) => reasonFold(text, alike)));
}

function reasonFold(text, alike) {
  const issues = [...new Set(alike.flatMap((check) => check.issues ?? []))];
  return fold({ class: "reason" }, [h("span", { class: "why" }, sentence(text)), " ", h("span", { class: "muted" }, count(alike.length, "check"))], () => h("div", {},
    issues.length ? h("p", { class: "small" }, "Upstream: ", issues.flatMap((issue) => [link(issue), " "])) : null,
    paged(alike, LISTED, (page) => h("ul", {}, page.map((check) => alikeLine(check, text))))));
}

function alikeLine(check, text) {
  const line = [check.happened, check.line === text ? null : check.line].filter(Boolean).join(". ");
  return h("li", {},
    h("a", { href: addressOf(check) }, h("code", {}, breakable(check.case))), " on ", h("code", {}, breakable(check.target)),
    check.blame ? [", blame: ", check.blame] : null,
    line ? h("span", { class: "line" }, line) : null);
}
