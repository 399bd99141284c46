// Which checks are shown: the filters, kept in the address so that a link can be sent.
const choice = { q: "", status: new Set(), target: "", blame: "" };
const listeners = [];

const words = () => choice.q.toLowerCase().split(/\s+/).filter(Boolean);
const isChosen = () => Boolean(words().length || choice.status.size || choice.target || choice.blame);

function textOf(check) {
  check.text ??= [check.case, check.target, outcomeOf(check), check.blame, check.message, check.line, check.reason]
    .filter(Boolean).join(" ").toLowerCase();
  return check.text;
}

function chosen() {
  const searched = words();
  return checks.filter((check) =>
    (!choice.status.size || choice.status.has(check.status)) &&
    (!choice.target || check.target === choice.target) &&
    (!choice.blame || check.blame === choice.blame) &&
    searched.every((word) => textOf(check).includes(word)));
}

function choose(change) {
  Object.assign(choice, change);
  history.replaceState(null, "", addressOfChoice());
  for (const update of listeners) update();
}

function addressOfChoice() {
  const query = Object.entries({ ...choice, status: [...choice.status].join(",") }).filter(([, value]) => value);
  const page = location.href.split("#")[0];
  return query.length ? `${page}#${new URLSearchParams(query)}` : page;
}

// The query in the address; null if the address is a plain anchor.
function queryInAddress() {
  const address = location.hash.slice(1);
  return address.includes("=") ? new URLSearchParams(address) : null;
}

function chosenIn(address) {
  const statuses = (address.get("status") ?? "").split(",").filter((status) => STATUSES.includes(status));
  const target = address.get("target") ?? "";
  return {
    q: address.get("q") ?? "",
    status: new Set(statuses),
    target: targets.includes(target) ? target : "",
    blame: address.get("blame") ?? "",
  };
}
