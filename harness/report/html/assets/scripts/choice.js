// Which checks are shown: what is chosen, kept in the address so that it can be sent along.
const choice = { q: "", status: new Set(), target: "", blame: "" };
const watching = [];

const words = () => choice.q.toLowerCase().split(/\s+/).filter(Boolean);
const isChosen = () => Boolean(words().length || choice.status.size || choice.target || choice.blame);

function textOf(check) {
  check.text ??= [check.case, check.target, inWords(check), check.blame, check.message, check.line, check.reason]
    .filter(Boolean).join(" ").toLowerCase();
  return check.text;
}

function chosen() {
  const asked = words();
  return checks.filter((check) =>
    (!choice.status.size || choice.status.has(check.status)) &&
    (!choice.target || check.target === choice.target) &&
    (!choice.blame || check.blame === choice.blame) &&
    asked.every((word) => textOf(check).includes(word)));
}

function choose(change) {
  Object.assign(choice, change);
  history.replaceState(null, "", addressOfChoice());
  for (const watch of watching) watch();
}

function addressOfChoice() {
  const asked = Object.entries({ ...choice, status: [...choice.status].join(",") }).filter(([, value]) => value);
  const page = location.href.split("#")[0];
  return asked.length ? `${page}#${new URLSearchParams(asked)}` : page;
}

// What an address asks for; null where it is a plain anchor.
function asked() {
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
