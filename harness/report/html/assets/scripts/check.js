// Everything that one check says of itself, from what went wrong to how to repeat it.
function bodyOf(check) {
  return h("div", { class: "body" }, [
    ...aboutFailure(check),
    block("Where it differs", check.pictures?.map(pictureOf)),
    block("What to do next", check.next && nextOf(check.next)),
    block("Script that shows it", check.script && scriptOf(check)),
    block("Numbers", check.numbers && numbersOf(check.numbers)),
    block("Expectations", check.findings && findingsOf(check.findings)),
    block("Distance from the definition in float64", check.distances && distancesOf(check.distances)),
    block("Latency", timingOf(check)),
    block("Where its nodes ran", check.placement && list(check.placement)),
    block("onnx.checker objects", check.checker && h("pre", {}, check.checker)),
    block("Notes", (check.notes || check.left_out) && list([...(check.notes ?? []), check.left_out].filter(Boolean))),
    block("Seconds by stage", check.seconds && Object.entries(check.seconds).map(([stage, seconds]) => `${stage} ${figure(real(seconds))}`).join(", ")),
    block("Where it stands", origin(check)),
    check.log ? h("details", {}, h("summary", {}, `What the libraries printed: ${count(check.log.length, "line")}`), h("pre", {}, check.log.join("\n"))) : null,
  ]);
}

// A part with its heading; nothing at all where there is nothing to say.
const block = (title, content) => (content && (!Array.isArray(content) || content.length) ? [h("h3", {}, title), content].flat() : null);

const list = (lines) => h("ul", { class: "evidence" }, lines.map((line) => h("li", {}, sentence(line))));

function aboutFailure(check) {
  const why = check.message ?? (check.status === "passed" ? null : check.line);
  return [
    why ? h("p", { class: "said" }, check.happened ? h("strong", {}, `${check.happened}. `) : null, why) : null,
    check.reason ? h("p", {}, "Listed as known: ", sentence(check.reason), (check.issues ?? []).flatMap((issue) => [" ", link(issue)])) : null,
    block("To blame", check.blame && [h("p", {}, h("span", { class: "blamed" }, check.blame)), check.evidence ? list(check.evidence) : null]),
    check.blame ? null : block("Evidence", check.evidence && list(check.evidence)),
  ];
}

function nextOf([text, command]) {
  const said = h("p", {}, sentence(text), ".");
  return command ? [said, h("div", { class: "command" }, h("pre", {}, command), copyButton(command))] : [said];
}

function scriptOf(check) {
  const file = URL.createObjectURL(new Blob([check.script], { type: "text/x-python" }));
  return [
    h("p", { class: "on-paper" }, "It is a page and more, and no use on paper: report.html and report.json hold it."),
    h("pre", { class: "script", tabindex: "0" }, check.script),
    h("div", { class: "tools" }, copyButton(check.script), h("a", { class: "button", href: file, download: "reproduce.py" }, "Save as reproduce.py")),
  ];
}

// A row for each measure and a column for each output, so that it fits a narrow page.
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
    return h("li", { class: status }, icon(status), h("span", {}, hidden(passed ? "held: " : "did not hold: "), h("code", {}, what), ` ${message}`));
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
