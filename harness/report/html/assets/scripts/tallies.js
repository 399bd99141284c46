// The matrix as data: specs have families of cases, a family has matrix points, a case has a check per target.
const specs = [...grouped(checks, (check) => check.spec)].map(([spec, ofSpec]) => ({
  spec,
  families: [...grouped(ofSpec, (check) => check.family)].map(([family, alike]) => ({
    family,
    cases: [...grouped(alike, (check) => check.case)].map(([name, row]) => ({
      name,
      short: row[0].short,
      checks: row,
      row: new Map(row.map((check) => [check.target, check])),
    })),
  })),
}));

// Mark the selected checks, and the cases that have one. Everything below reads the marks.
function markSelected(selected) {
  for (const check of checks) check.shown = false;
  for (const check of selected) check.shown = true;
  for (const spec of specs) {
    for (const family of spec.families) family.visible = family.cases.filter((one) => one.checks.some((check) => check.shown));
    spec.visible = spec.families.flatMap((family) => family.visible);
  }
}

// The number of selected checks on some targets by status.
function tallyOf(cases, columns) {
  const counts = Object.fromEntries(STATUSES.map((status) => [status, 0]));
  for (const one of cases) {
    for (const target of columns) {
      const check = one.row.get(target);
      if (check?.shown) counts[check.status] += 1;
    }
  }
  const present = Object.entries(counts).filter(([, many]) => many);
  if (!present.length) return null;
  return h("div", { class: "tally" }, present.map(([status, many]) =>
    h("span", { class: status, title: `${many} ${status}` }, icon(status), many.toLocaleString("en"), hidden(` ${status}`))));
}

const tallied = (cases, target) => h("td", {}, tallyOf(cases, [target]) ?? h("span", { class: "absent" }, "-"));
