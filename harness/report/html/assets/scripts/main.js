// The sections, the most urgent first; then what the address names.
wrongCards();
knownFolds();
remarkFolds();
skippedFolds();
if (checks.length) document.getElementById("checks").append(filters(), ...matrix(), h("p", { class: "note keys" },
  "Keys: ", h("kbd", {}, "/"), " searches, arrow keys move between cells, ", h("kbd", {}, "Enter"), " opens a check, ", h("kbd", {}, "Esc"), " closes it."));
spread();
latency();
comparison();
for (const update of listeners) update();

addEventListener("hashchange", follow);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || drawer.open || event.target.closest("input, select, textarea")) return;
  event.preventDefault();
  document.getElementById("search").focus();
});
follow();
