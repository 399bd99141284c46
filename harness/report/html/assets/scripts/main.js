// From the most to the least urgent; then what the address asks for.
wrongCards();
asKnown();
asRemarked();
asSkipped();
if (checks.length) document.getElementById("checks").append(filters(), ...matrix(), h("p", { class: "note keys" },
  "Keys: ", h("kbd", {}, "/"), " searches, the arrows move from cell to cell, ", h("kbd", {}, "Enter"), " shows a check, ", h("kbd", {}, "Esc"), " closes it."));
spread();
latency();
comparison();
for (const watch of watching) watch();

addEventListener("hashchange", follow);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || drawer.open || event.target.closest("input, select, textarea")) return;
  event.preventDefault();
  document.getElementById("search").focus();
});
follow();
