// The drawer that shows one check. Its address opens it; closing it restores the address. Escape closes it.
const drawer = document.getElementById("check");
let inDrawer = null;

function show(check) {
  inDrawer = check;
  const order = chosen();
  const at = order.indexOf(check);
  const go = (step) => order[at + step] && (() => moveTo(order[at + step]));
  const button = (name, image, action) => h("button", { class: "button", type: "button", disabled: !action, onclick: action, "aria-label": name }, icon(image), h("span", { class: "word" }, name));
  drawer.replaceChildren(
    h("div", { class: "bar-top" },
      h("span", { class: "place" }, at < 0 ? "" : `${(at + 1).toLocaleString("en")} of ${order.length.toLocaleString("en")}`),
      at > 0 ? button("Previous", "left", go(-1)) : null,
      at >= 0 && at + 1 < order.length ? button("Next", "open", go(1)) : null,
      button("Close", "close", () => drawer.close())),
    h("div", { class: "sheet" },
      h("div", {}, tag(check), " ", h("span", { class: "muted" }, detailOf(check))),
      h("h2", { id: "check-title", tabindex: "-1" }, breakable(check.short)),
      h("p", { class: "muted" }, check.spec ? ["in ", h("code", {}, breakable(check.spec)), ", "] : null, "on ", h("code", {}, breakable(check.target))),
      modelOf(check),
      bodyOf(check)));
  if (!drawer.open) drawer.showModal();
  drawer.scrollTop = 0;
  drawer.querySelector("#check-title").focus();
}

function moveTo(check) {
  history.replaceState(null, "", addressOf(check));
  show(check);
}

drawer.addEventListener("close", () => {
  inDrawer = null;
  drawer.replaceChildren();
  if (queryInAddress()?.has("check")) history.replaceState(null, "", addressOfChoice());
});
drawer.addEventListener("click", (event) => {
  if (event.target === drawer) drawer.close();
});

// Show what the address names: one check, or a selection of checks. A plain anchor names neither.
function follow() {
  const address = queryInAddress();
  if (!address) {
    if (drawer.open) drawer.close();
    return;
  }
  if (address.has("check")) {
    const check = find(address.get("check"), address.get("on"));
    if (check && check !== inDrawer) show(check);
    return;
  }
  if (drawer.open) drawer.close();
  choose(chosenIn(address));
  document.getElementById("checks").scrollIntoView();
}
