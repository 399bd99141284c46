// One check: what went wrong, who is to blame and what to do next; then where and how fast it ran; details are folded.
function bodyOf(check) {
  return h("div", { class: "body" }, [
    ...aboutFailure(check),
    whyBlamed(check),
    block("Where it differs", check.pictures?.slice(0, 1).map(pictureOf)),
    block("Layers", check.layers && layersOf(check)),
    block("Next step", check.next && nextOf(check.next)),
    block("Remarks", (check.notes || check.checker || check.left_out) && list([...(check.notes ?? []), check.checker && `onnx.checker: ${check.checker}`, check.left_out].filter(Boolean))),
    block("Latency", timingOf(check)),
    block("Time", check.seconds && [stagesOf(check.seconds)]),
    block("Exported file", fileOf(check)),
    block("Script that reproduces it", check.script && scriptOf(check)),
    detailsOf(check),
    h("p", { class: "small" }, check.where ? ["Spec: ", h("code", {}, breakable(check.where)), ". "] : null, h("a", { href: addressOf(check) }, "Link to this check")),
  ]);
}

// A part with its heading; null if the part is empty.
const block = (title, content) => (content && (!Array.isArray(content) || content.length) ? [h("h3", {}, title), content].flat() : null);

const list = (lines) => h("ul", { class: "evidence" }, lines.map((line) => h("li", {}, sentence(line))));

// The model, its inputs and the spec's own words.
function modelOf(check) {
  const inputs = [...(check.inputs ?? []), check.draws > 1 ? `${check.draws} draws` : null].filter(Boolean);
  return [
    check.about ? h("p", { class: "about" }, check.about) : null,
    check.model ? h("p", { class: "model" }, h("code", {}, breakable(check.model))) : null,
    inputs.length ? h("p", { class: "small muted" }, inputs.join("; ")) : null,
  ];
}

function aboutFailure(check) {
  const why = check.status === "passed" ? check.message : check.line ?? check.message;
  return [
    why ? h("p", { class: "said" }, check.happened ? h("strong", {}, `${check.happened}. `) : null, why) : null,
    check.reason ? h("p", {}, "Known failure: ", sentence(check.reason), (check.issues ?? []).flatMap((issue) => [" ", link(issue)])) : null,
  ];
}

function whyBlamed(check) {
  const evidence = check.evidence ? list(check.evidence) : null;
  if (check.blame) return [h("h3", {}, "Blame: ", h("span", { class: "blamed" }, check.blame)), evidence];
  return block("Evidence", evidence);
}

function nextOf([text, command]) {
  const advice = h("p", {}, sentence(text), ".");
  return command ? [advice, h("div", { class: "command" }, h("pre", {}, breakable(command)), copyButton(command, "Copy the command"))] : [advice];
}

// A path that Netron opens.
function fileOf(check) {
  if (!check.file) return null;
  const path = check.file.startsWith("/") || check.file.startsWith("~") ? check.file : packed.kept_in + check.file;
  return [h("div", { class: "command" }, h("pre", {}, breakable(path)), copyButton(path, "Copy the path"))];
}

function scriptOf(check) {
  const file = URL.createObjectURL(new Blob([check.script], { type: "text/x-python" }));
  return [
    h("p", { class: "on-paper" }, "Not printed: report.html and report.json have it."),
    h("pre", { class: "script", tabindex: "0" }, check.script),
    h("div", { class: "tools" }, copyButton(check.script, "Copy the script"), h("a", { class: "button", href: file, download: "reproduce.py" }, "Save as reproduce.py")),
  ];
}

function stagesOf(seconds) {
  const stages = Object.entries(seconds).map(([stage, time]) => [stage, real(time)]);
  const whole = stages.reduce((sum, [, time]) => sum + time, 0);
  return h("p", {}, `${milliseconds(whole)}: `, stages.map(([stage, time]) => `${stage} ${milliseconds(time)}`).join(", "));
}

const milliseconds = (seconds) => `${figure(1000 * seconds)} ms`;
