// The filters above the matrix.
function filters() {
  const search = h("input", { type: "search", id: "search", placeholder: "case, target, message ...", autocomplete: "off", spellcheck: "false" });
  search.addEventListener("input", () => choose({ q: search.value }));

  const toggles = STATUSES.filter((status) => checks.some((check) => check.status === status)).map((status) => {
    const button = h("button", { type: "button", class: `toggle ${status}`, "data-status": status }, icon(status), status, h("span", { class: "count" }));
    button.addEventListener("click", () => {
      const statuses = new Set(choice.status);
      if (!statuses.delete(status)) statuses.add(status);
      choose({ status: statuses });
    });
    return button;
  });

  const target = select("Target", "all targets", targets);
  const blame = select("Blame", "any blame", [...new Set(checks.map((check) => check.blame).filter(Boolean))]);
  const reset = h("button", { type: "button", class: "button", onclick: () => { choose({ q: "", status: new Set(), target: "", blame: "" }); search.focus(); } }, "Show all");

  listeners.push(() => {
    if (search.value !== choice.q) search.value = choice.q;
    for (const button of toggles) {
      button.setAttribute("aria-pressed", String(choice.status.has(button.dataset.status)));
      button.querySelector(".count").textContent = selection().counts[button.dataset.status].toLocaleString("en");
    }
    target.value = choice.target;
    blame.value = choice.blame;
    reset.hidden = !isChosen();
  });
  return h("div", { class: "filters", role: "search", "aria-label": "Filter checks" },
    h("label", { class: "search" }, "Search", search),
    h("div", { class: "filters", role: "group", "aria-label": "By status" }, toggles),
    h("label", {}, "Target", target),
    blame.options.length > 1 ? h("label", {}, "Blame", blame) : null,
    reset);
}

// The name is on the control itself: a screen reader would read a label around it with all of the options.
function select(name, all, values) {
  return h("select", { "aria-label": name, onchange: (event) => choose({ [name.toLowerCase()]: event.target.value }) },
    h("option", { value: "" }, all), values.map((value) => h("option", { value }, value)));
}
