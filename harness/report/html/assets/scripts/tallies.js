// The matrix as data: specs hold families of cases, a family its matrix points, a case a check for each target.
const specs = [...grouped(checks, (check) => check.spec)].map(([spec, own]) => ({
  spec,
  families: [...grouped(own, (check) => check.family)].map(([family, alike]) => ({
    family,
    cases: [...grouped(alike, (check) => check.case)].map(([name, row]) => ({
      name,
      short: row[0].short,
      row: new Map(row.map((check) => [check.target, check])),
    })),
  })),
}));

// Which cases have a check that is chosen; `shown` are the checks' numbers.
function visible(family, shown) {
  return family.cases.filter((one) => [...one.row.values()].some((check) => shown.has(check.number)));
}

// How many of the chosen checks on one target came to each status.
function tally(cases, target, shown) {
  const counts = Object.fromEntries(STATUSES.map((status) => [status, 0]));
  for (const one of cases) {
    const check = one.row.get(target);
    if (check && shown.has(check.number)) counts[check.status] += 1;
  }
  return counts;
}

function tallied(cases, target, shown) {
  const counts = Object.entries(tally(cases, target, shown)).filter(([, many]) => many);
  if (!counts.length) return h("td", {}, h("span", { class: "absent" }, "-"));
  return h("td", {}, h("div", { class: "tally" }, counts.map(([status, many]) =>
    h("span", { class: status, title: `${many} ${status}` }, icon(status), many.toLocaleString("en"), hidden(` ${status}`)))));
}
