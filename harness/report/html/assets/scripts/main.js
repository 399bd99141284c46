// The sections, the most urgent first; then what the address names.
causeCards();
knownFolds();
remarkFolds();
skippedFolds();
if (checks.length) reveal("checks").append(filters(), ...matrix(), h("p", { class: "note keys" },
  "Keys: ", h("kbd", {}, "/"), " searches, arrow keys move between cells, ", h("kbd", {}, "Enter"), " opens a check, ", h("kbd", {}, "Esc"), " closes it."));
accuracy();
latency();
comparison();
for (const update of listeners) update();

for (const box of document.querySelectorAll("#targets .scroll")) box.after(sideways(box));
printing();

addEventListener("hashchange", follow);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || drawer.open || event.target.closest("input, select, textarea")) return;
  event.preventDefault();
  document.getElementById("search").focus();
});
follow();
