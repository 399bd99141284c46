// The matrix as data: specs have families of cases, a family has matrix points, a case has a check per target.
const specs = [...grouped(checks, (check) => check.spec)].map(([spec, ofSpec]) => ({
  spec,
  families: [...grouped(ofSpec, (check) => check.family)].map(([family, alike]) => ({
    family,
    cases: [...grouped(alike, (check) => check.case)].map(([name, row]) => ({
      name,
      short: row[0].short,
      row: new Map(row.map((check) => [check.target, check])),
    })),
  })),
}));

// The cases with a selected check; `shown` are the numbers of the selected checks.
function visible(family, shown) {
  return family.cases.filter((one) => [...one.row.values()].some((check) => shown.has(check.number)));
}

// The number of selected checks on some targets by status.
function tallyOf(cases, columns, shown) {
  const counts = Object.fromEntries(STATUSES.map((status) => [status, 0]));
  for (const one of cases) {
    for (const target of columns) {
      const check = one.row.get(target);
      if (check && shown.has(check.number)) counts[check.status] += 1;
    }
  }
  const present = Object.entries(counts).filter(([, many]) => many);
  if (!present.length) return null;
  return h("div", { class: "tally" }, present.map(([status, many]) =>
    h("span", { class: status, title: `${many} ${status}` }, icon(status), many.toLocaleString("en"), hidden(` ${status}`))));
}

const tallied = (cases, target, shown) => h("td", {}, tallyOf(cases, [target], shown) ?? h("span", { class: "absent" }, "-"));
