// What is wrong, each cause once: silent failures first. A card is closed; its content is built when it is opened.
// As many as fit on four printed pages.
const CAUSES_AT_ONCE = 18;
const CASES_AT_ONCE = 20;

function causeCards() {
  if (!packed.causes.length) return;
  const wrong = packed.causes.reduce((sum, cause) => sum + cause.checks.length, 0);
  const note = `${count(packed.causes.length, "cause")} in ${count(wrong, "check")}. ${HOW_BAD}`;
  reveal("wrong", packed.causes.length).append(
    h("p", { class: "note" }, note),
    paged(packed.causes, CAUSES_AT_ONCE, (page) => h("div", {}, page.map(causeCard))));
}

const HOW_BAD = "FAILED outputs are wrong silently; an ERROR stops by itself.";

function causeCard(cause) {
  const members = cause.checks.map((number) => checks[number]);
  const [first] = members;
  const alone = members.length === 1;
  const title = alone ? [h("code", {}, breakable(first.case)), " on ", h("code", {}, breakable(first.target))] : breakable(cause.title);
  const what = alone ? [first.happened, first.line].filter(Boolean).join(". ") : cause.line;
  const extent = alone ? "" : [cause.extent, cause.contrast].filter(Boolean).join("; ");
  return fold({ class: `card ${cause.status}` }, [
    tag(first),
    h("span", { class: "which" }, h("strong", {}, title)),
    cause.blame ? h("span", { class: "whom" }, "blame: ", h("strong", {}, cause.blame)) : h("span"),
    extent ? h("span", { class: "line extent" }, extent) : null,
    what ? h("span", { class: "line" }, what) : null,
    first.next?.[1] ? h("code", { class: "line on-paper" }, first.next[1]) : null,
  ], () => (alone ? bodyOf(first) : membersOf(members)));
}

// The evidence and the next step of the first check, then the cases with their targets; each leads to its check.
function membersOf(members) {
  const [first] = members;
  const cases = [...grouped(members, (check) => check.case)];
  return h("div", { class: "body" },
    whyBlamed(first),
    first.pictures ? block("Where the first differs", first.pictures.slice(0, 1).map(pictureOf)) : null,
    block("Next step for the first", first.next && nextOf(first.next)),
    h("h3", {}, `${count(cases.length, "case")}`),
    paged(cases, CASES_AT_ONCE, (page) => h("ul", { class: "members" }, page.map(memberOf))));
}

const memberOf = ([name, ofCase]) => h("li", {}, h("code", {}, breakable(name)),
  h("span", { class: "links" }, ofCase.map((check) => h("a", { href: addressOf(check), "aria-label": `${name} on ${check.target}` }, h("code", {}, breakable(check.target))))));
