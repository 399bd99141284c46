// What is not as expected, first and in full: a card for each check, its content made when it is opened.
const CARDS = 30;
const CARDS_ON_PAPER = 100;

function wrongCards() {
  const wrong = checks.filter((check) => WRONG.has(check.status));
  if (!wrong.length) return;
  const section = reveal("wrong", wrong.length);
  const cards = h("div");
  const more = h("button", { class: "button", type: "button", onclick: () => add(CARDS) });
  section.append(cards, more);

  function add(many) {
    const from = cards.childElementCount;
    cards.append(...wrong.slice(from, from + many).map(card));
    const left = wrong.length - cards.childElementCount;
    more.textContent = `Show more; ${left.toLocaleString("en")} left`;
    more.hidden = left <= 0;
  }

  add(CARDS);
  unfold(cards.firstElementChild);
  addEventListener("beforeprint", () => {
    add(Math.max(0, CARDS_ON_PAPER - cards.childElementCount));
    for (const each of cards.children) unfold(each);
  });
}

function card(check) {
  const summary = [
    tag(check),
    h("span", { class: "which" }, h("strong", {}, h("code", {}, breakable(check.case))), " on ", h("code", {}, breakable(check.target))),
    check.blame ? h("span", {}, hidden("blame: "), h("span", { class: "blamed" }, check.blame)) : h("span"),
    h("span", { class: "line" }, [check.happened, check.line].filter(Boolean).join(". ")),
  ];
  return fold({ class: `card ${check.status}` }, summary, () => bodyOf(check));
}
