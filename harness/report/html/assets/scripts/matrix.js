// Cases by targets. Only open rows are in the page, so that ten thousand checks are as fast as ten.
const AT_ONCE = 200;
const OPENED_AT_ONCE = 40;
const CHECKS_OPENED_AT_FIRST = 30;

function matrix() {
  const open = new Set();
  const limits = new Map();
  const shownLine = h("p", { class: "shown", role: "status" });
  const table = h("table", {}, h("caption", { class: "hidden" }, "Cases by targets"));
  let bodies = [];
  let columns = targets;

  function draw() {
    markSelected(chosen());
    columns = choice.target ? [choice.target] : targets;
    const groups = specs.filter((spec) => spec.visible.length);
    const rows = groups.reduce((sum, spec) => sum + spec.visible.length, 0);
    const all = isChosen() ? rows <= OPENED_AT_ONCE : checks.length <= CHECKS_OPENED_AT_FIRST;
    const head = h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "case"), columns.map((target) => h("th", { scope: "col" }, breakable(target)))));
    bodies = groups.map((spec) => {
      const body = h("tbody");
      body.redraw = () => body.replaceChildren(...specRows(spec, all, body.redraw));
      body.redraw();
      return body;
    });
    table.style.setProperty("--columns", columns.length);
    table.replaceChildren(table.caption, h("colgroup", {}, h("col", { class: "names" }), columns.map(() => h("col"))), head, ...bodies);
    shownLine.textContent = rows
      ? `${isChosen() ? "Selected" : "All"}: ${count(chosen().length, "check")} of ${count(rows, "case")}.`
      : "No check matches. Remove a word or a filter.";
  }

  function specRows(spec, all, redraw) {
    const cases = spec.visible;
    const isOpen = open.has(spec.spec) !== all;
    const rows = [groupRow("group", spec.spec, spec.spec || "cases", cases, isOpen, redraw)];
    if (isOpen) rows.push(...spec.families.flatMap((family) => familyRows(spec, family, all, redraw)));
    return rows;
  }

  function familyRows(spec, family, all, redraw) {
    const cases = family.visible;
    if (cases.length < 2) return cases.map((one) => caseRow(one, "case"));
    const key = `${spec.spec}/${family.family}[]`;
    const isOpen = open.has(key) !== all;
    const rows = [groupRow("family", key, `${family.family}[...]`, cases, isOpen, redraw)];
    if (!isOpen) return rows;
    const limit = limits.get(key) ?? AT_ONCE;
    rows.push(...cases.slice(0, limit).map((one) => caseRow(one, "case deep", one.short.slice(family.family.length))));
    if (cases.length > limit) {
      const more = () => { limits.set(key, limit + AT_ONCE); redraw(); };
      const rest = count(cases.length - limit, "case");
      rows.push(h("tr", {}, h("td", { colspan: columns.length + 1, class: "more" }, h("button", { class: "button", type: "button", onclick: more }, `Show more; ${rest} left`))));
    }
    return rows;
  }

  function groupRow(kind, key, label, cases, isOpen, redraw) {
    const toggle = () => {
      if (!open.delete(key)) open.add(key);
      redraw();
      table.querySelector(`[data-key="${CSS.escape(key)}"]`).focus();
    };
    const button = h("button", { class: "head", type: "button", "aria-expanded": String(isOpen), "data-key": key, onclick: toggle },
      icon("open"), h("code", {}, breakable(label)), h("span", { class: "many" }, count(cases.length, "case")));
    return h("tr", { class: kind }, h("th", { scope: "row" }, button, h("div", { class: "of-all" }, tallyOf(cases, columns))), columns.map((target) => tallied(cases, target)));
  }

  function caseRow(one, kind, label = one.short) {
    return h("tr", { class: kind }, h("th", { scope: "row" }, h("code", {}, breakable(label))),
      columns.map((target) => {
        const check = one.row.get(target);
        return h("td", { class: check ? check.status : "none", "data-target": target }, cell(check));
      }));
  }

  function cell(check) {
    if (!check) return h("span", { class: "absent", title: "not run" }, "-", hidden(" not run"));
    const other = check.shown ? "" : " other";
    return h("a", { class: `cell ${check.status}${other}`, href: addressOf(check) }, icon(check.status),
      h("span", {}, h("span", { class: "word" }, STATUS_WORD[check.status]), detailOf(check) ? h("small", {}, detailOf(check)) : null));
  }

  listeners.push(draw);
  table.addEventListener("keydown", moveByArrows);
  const box = h("div", { class: "matrix", role: "group", "aria-label": "Cases by targets", tabindex: "-1" }, table);
  return [shownLine, box, sideways(box)];
}
