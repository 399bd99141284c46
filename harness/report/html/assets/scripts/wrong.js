// The unexpected checks, first and in full: one card per check, whose content is built when it is opened. Checks of one
// family that fail the same way share a card, so that one fault in a hundred matrix points is one card.
const KINDS_AT_ONCE = 30;
const CARDS_AT_ONCE = 20;

function wrongCards() {
  const wrong = checks.filter((check) => WRONG.has(check.status));
  if (!wrong.length) return;
  const kinds = [...grouped(wrong, kindOf).values()];
  const cards = paged(kinds, KINDS_AT_ONCE, (page) => h("div", {}, page.map((alike) => (alike.length > 1 ? kindCard(alike) : card(alike[0])))));
  reveal("wrong", wrong.length).append(cards);
  unfoldFirst(cards.querySelector(".card"));
  // On paper, one check of each kind is in full.
  addEventListener("beforeprint", () => cards.querySelectorAll(".card:not(.card .card)").forEach(unfoldFirst));
}

const kindOf = (check) => JSON.stringify([check.spec, check.family, check.status, check.happened, check.blame]);

function unfoldFirst(shown) {
  unfold(shown);
  const within = shown.querySelector(".card");
  if (within) unfold(within);
}

function kindCard(alike) {
  const [one] = alike;
  const on = [...new Set(alike.map((check) => check.target))];
  const cases = new Set(alike.map((check) => check.case)).size;
  const name = cases > 1 ? `${one.spec}/${one.family}[...]` : one.case;
  return fold({ class: `card kind ${one.status}` }, cardHead(one, [
    h("strong", {}, h("code", {}, breakable(name))), `: ${count(alike.length, "check")}${cases > 1 ? ` of ${count(cases, "case")}` : ""}`,
  ], [one.happened ? `${one.happened}; on ` : "on ", on.map((target, at) => [at ? ", " : "", h("code", {}, breakable(target))])]),
  () => h("div", { class: "alike" }, paged(alike, CARDS_AT_ONCE, (page) => h("div", {}, page.map(card)))));
}

function card(check) {
  const which = [h("strong", {}, h("code", {}, breakable(check.case))), " on ", h("code", {}, breakable(check.target))];
  const line = [check.happened, check.line].filter(Boolean).join(". ");
  return fold({ class: `card ${check.status}` }, cardHead(check, which, line), () => bodyOf(check));
}

const cardHead = (check, which, line) => [
  tag(check),
  h("span", { class: "which" }, which),
  check.blame ? h("span", {}, hidden("blame: "), h("span", { class: "blamed" }, check.blame)) : h("span"),
  h("span", { class: "line" }, line),
];
