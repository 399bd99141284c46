// The rest of what is known of a check, folded: all numbers, with the 17 digits of the worst elements once.
function detailsOf(check) {
  const parts = [
    block("Worst elements, all digits", check.exact && [h("pre", {}, check.exact.join("\n"))]),
    block("Where else it differs", check.pictures?.slice(1).map(pictureOf)),
    block("Numbers", check.numbers && numbersOf(check.numbers)),
    block("Expectations", check.findings && findingsOf(check.findings)),
    block("Distance from the float64 reference", check.distances && distancesOf(check.distances)),
    block("Where the nodes ran", check.placement && [list(check.placement)]),
    check.message && check.message !== check.line ? block("Whole message", [h("pre", {}, check.message)]) : null,
    check.log ? block(`Output of the libraries: ${count(check.log.length, "line")}`, [h("pre", {}, check.log.join("\n"))]) : null,
  ];
  return parts.some(Boolean) ? fold({ class: "further" }, "Details", () => h("div", {}, parts.flat())) : null;
}

// A row per number and a column per output, so that the table fits a narrow page.
function numbersOf(outputs) {
  const rows = packed.numbers.map((name, at) => [name, outputs.map((output) => output[at])]).filter(([, values]) => values.some((value) => value !== null && value !== "-"));
  const [head, ...body] = rows.map(([name, values]) => [name, values.map((value) => value ?? "-")]);
  return [scrolled("Numbers by output", h("table", { class: "plain small" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, head[0]), head[1].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, body.map(([name, values]) => h("tr", {}, h("th", { scope: "row" }, name), values.map((value) => h("td", {}, value)))))))];
}

function findingsOf(findings) {
  return [h("ul", { class: "outcomes" }, findings.map(([what, passed, message]) => {
    const status = passed ? "passed" : "failed";
    return h("li", { class: status }, icon(status), h("span", {}, hidden(passed ? "passed: " : "failed: "), h("code", {}, what), ` ${message}`));
  }))];
}

function distancesOf(distances) {
  return [h("table", { class: "plain small" },
    h("thead", {}, h("tr", {}, ["output", "eager", "target", "nearer"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, distances.map((row) => h("tr", {}, row.map((text) => h("td", {}, text))))))];
}
