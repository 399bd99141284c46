// One check in full, from what went wrong to how to repeat it.
function bodyOf(check) {
  return h("div", { class: "body" }, [
    ...aboutFailure(check),
    block("Where it differs", check.pictures?.map(pictureOf)),
    block("Layers", check.layers && layersOf(check)),
    block("Next step", check.next && nextOf(check.next)),
    block("Script that reproduces it", check.script && scriptOf(check)),
    block("Numbers", check.numbers && numbersOf(check.numbers)),
    block("Expectations", check.findings && findingsOf(check.findings)),
    block("Distance from the float64 reference", check.distances && distancesOf(check.distances)),
    block("Latency", timingOf(check)),
    block("Where the nodes ran", check.placement && list(check.placement)),
    block("onnx.checker reports", check.checker && h("pre", {}, check.checker)),
    block("Notes", (check.notes || check.left_out) && list([...(check.notes ?? []), check.left_out].filter(Boolean))),
    block("Seconds by stage", check.seconds && Object.entries(check.seconds).map(([stage, seconds]) => `${stage} ${figure(real(seconds))}`).join(", ")),
    block("Source", origin(check)),
    check.log ? h("details", {}, h("summary", {}, `Output of the libraries: ${count(check.log.length, "line")}`), h("pre", {}, check.log.join("\n"))) : null,
  ]);
}

// A part with its heading; null if the part is empty.
const block = (title, content) => (content && (!Array.isArray(content) || content.length) ? [h("h3", {}, title), content].flat() : null);

const list = (lines) => h("ul", { class: "evidence" }, lines.map((line) => h("li", {}, sentence(line))));

function aboutFailure(check) {
  const why = check.message ?? (check.status === "passed" ? null : check.line);
  return [
    why ? h("p", { class: "said" }, check.happened ? h("strong", {}, `${check.happened}. `) : null, why) : null,
    check.reason ? h("p", {}, "Known failure: ", sentence(check.reason), (check.issues ?? []).flatMap((issue) => [" ", link(issue)])) : null,
    block("Blame", check.blame && [h("p", {}, h("span", { class: "blamed" }, check.blame)), check.evidence ? list(check.evidence) : null]),
    check.blame ? null : block("Evidence", check.evidence && list(check.evidence)),
  ];
}

function nextOf([text, command]) {
  const advice = h("p", {}, sentence(text), ".");
  return command ? [advice, h("div", { class: "command" }, h("pre", {}, command), copyButton(command))] : [advice];
}

function scriptOf(check) {
  const file = URL.createObjectURL(new Blob([check.script], { type: "text/x-python" }));
  return [
    h("p", { class: "on-paper" }, "Not printed: report.html and report.json have it."),
    h("pre", { class: "script", tabindex: "0" }, check.script),
    h("div", { class: "tools" }, copyButton(check.script), h("a", { class: "button", href: file, download: "reproduce.py" }, "Save as reproduce.py")),
  ];
}

// A row per number and a column per output, so that the table fits a narrow page.
function numbersOf(outputs) {
  const rows = packed.numbers.map((name, at) => [name, outputs.map((output) => output[at])]).filter(([, values]) => values.some((value) => value !== null && value !== "-"));
  const [head, ...body] = rows.map(([name, values]) => [name, values.map((value) => value ?? "-")]);
  return [h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Numbers by output" }, h("table", { class: "plain small" },
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, head[0]), head[1].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, body.map(([name, values]) => h("tr", {}, h("th", { scope: "row" }, name), values.map((value) => h("td", {}, value))))))) ];
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

function origin(check) {
  return [h("p", { class: "small" },
    check.where ? ["spec ", h("code", {}, check.where), h("br")] : null,
    check.artifact ? ["exported file ", h("code", {}, check.artifact), h("br")] : null,
    h("a", { href: addressOf(check) }, "Link to this check"))];
}
