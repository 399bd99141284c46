// On paper: the summary and the causes. All other sections are printed on request only.
function printing() {
  const whole = () => {
    document.body.classList.add("whole");
    addEventListener("afterprint", () => document.body.classList.remove("whole"), { once: true });
    print();
  };
  document.getElementById("environment").append(h("p", { class: "note tools" },
    "Printing this page gives the summary and the causes. ", h("button", { class: "button", type: "button", onclick: whole }, "Print all sections")));
}
