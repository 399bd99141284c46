// Which checks are shown: the filters, kept in the address so that a link can be sent.
const choice = { q: "", status: new Set(), target: "", blame: "" };
const listeners = [];

const words = () => choice.q.toLowerCase().split(/\s+/).filter(Boolean);
const isChosen = () => Boolean(words().length || choice.status.size || choice.target || choice.blame);

function textOf(check) {
  check.text ??= [check.case, check.target, outcomeOf(check), check.blame, check.message, check.line, check.reason, check.model, check.about]
    .filter(Boolean).join(" ").toLowerCase();
  return check.text;
}

// The checks that pass every filter but the one on their status: what a choice of a status would show.
function chosenButForStatus() {
  const searched = words();
  return checks.filter((check) =>
    (!choice.target || check.target === choice.target) &&
    (!choice.blame || check.blame === choice.blame) &&
    searched.every((word) => textOf(check).includes(word)));
}

let selected = null;

function selection() {
  if (!selected) {
    const any = chosenButForStatus();
    const counts = Object.fromEntries(STATUSES.map((status) => [status, 0]));
    for (const check of any) counts[check.status] += 1;
    selected = { counts, checks: choice.status.size ? any.filter((check) => choice.status.has(check.status)) : any };
  }
  return selected;
}

const chosen = () => selection().checks;

function choose(change) {
  Object.assign(choice, change);
  selected = null;
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
