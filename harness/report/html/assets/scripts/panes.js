// Three panes of one plane: expected, actual, error. One cursor reads all three, by pointer or by arrow keys.
const PANE = 232;

function pictureOf(picture) {
  const [rows, columns] = picture.shape;
  const size = Math.max(7, Math.min(58, Math.floor(PANE / Math.max(rows, columns))));
  const scales = scalesOf(picture);
  const panes = [
    pane("expected", picture.expected, scales.values, picture, size),
    pane("actual", picture.actual, scales.values, picture, size),
    pane("error", picture.error, scales.errors, picture, size),
  ];
  const readout = h("p", { class: "readout", role: "status" });
  const of = picture.layer ? `Layer ${picture.layer} on the reference's inputs` : `Output ${picture.output}${picture.at ? ` at ${picture.at}` : ""}`;
  const name = `${of}: ${picture.title}`;
  const group = h("div", { class: "panes", tabindex: "0", role: "group", "aria-label": `${name}. ${summaryOf(picture)}. Arrow keys move the cursor.` }, panes.map(({ node }) => node));
  let at = picture.worst ?? [0, 0];

  function show(row, column) {
    at = [row, column];
    const [expected, actual, error] = [picture.expected, picture.actual, picture.error].map((cells) => real(cells[row][column]));
    const [shownActual, shownExpected] = figurePair(actual, expected);
    const off = Number.isNaN(error) ? "not defined, not compared" : `error ${figure(error)}`;
    readout.textContent = `[${row}, ${column}] actual ${shownActual}, expected ${shownExpected}, ${off}`;
    for (const { cursor } of panes) {
      cursor.setAttribute("x", column * size + 1);
      cursor.setAttribute("y", row * size + 1);
      cursor.setAttribute("visibility", "visible");
    }
  }

  group.addEventListener("pointermove", (event) => {
    const place = event.target.closest("svg.cells")?.getBoundingClientRect();
    if (!place) return;
    const within = (offset, length, cells) => Math.min(cells - 1, Math.max(0, Math.floor((offset / length) * cells)));
    show(within(event.clientY - place.top, place.height, rows), within(event.clientX - place.left, place.width, columns));
  });
  group.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    show(Math.min(rows - 1, Math.max(0, at[0] + step[0])), Math.min(columns - 1, Math.max(0, at[1] + step[1])));
  });
  group.addEventListener("focus", () => show(...at));
  return h("figure", { class: "picture" }, h("figcaption", {}, `${name}. ${summaryOf(picture)}.`), group, readout);
}

function pane(name, cells, scale, picture, size) {
  const [rows, columns] = picture.shape;
  const isError = name === "error";
  const square = (row, column, more) => ({ x: column * size, y: row * size, width: size, height: size, ...more });
  const drawn = cells.flatMap((line, row) => line.map((cell, column) => {
    const value = real(cell);
    const colour = ground(value, scale, isError);
    const box = Number.isFinite(value)
      ? s("rect", square(row, column, { fill: rgb(colour) }))
      : s("rect", square(row, column, { class: isError && value === Infinity ? "endless" : "lost" }));
    if (size < 46) return [box];
    const ink = colour ? inkOn(colour) : "var(--text)";
    return [box, s("text", { x: (column + 0.5) * size, y: (row + 0.5) * size, fill: ink }, figure(value))];
  }));
  const [row, column] = picture.worst ?? [0, 0];
  const frame = { x: column * size + 1, y: row * size + 1, width: size - 2, height: size - 2 };
  const cursor = s("rect", { class: "cursor", width: size - 2, height: size - 2, visibility: "hidden" });
  const svg = s("svg", { class: "cells", width: columns * size, height: rows * size, viewBox: `0 0 ${columns * size} ${rows * size}`, "aria-hidden": "true" },
    drawn,
    s("rect", { class: "edge", x: 0.5, y: 0.5, width: columns * size - 1, height: rows * size - 1 }),
    picture.worst ? [s("rect", { class: "worst-halo", ...frame }), s("rect", { class: "worst", ...frame })] : [],
    cursor);
  return { node: h("div", { class: "pane" }, h("h4", {}, isError ? "absolute error" : name), svg, scaleOf(scale, isError ? "colour: log scale" : "")), cursor };
}

// A strip of colours from the smallest to the largest value.
function scaleOf(scale, note) {
  if (scale.empty) return h("div", { class: "scale" }, "no finite number");
  const strip = Array.from({ length: 24 }, (_, at) => s("rect", { x: at * 3, width: 3, height: 10, fill: rgb(mixed(scale.stops, at / 23)) }));
  return h("div", { class: "scale" }, figure(scale.low), s("svg", { width: 72, height: 10, viewBox: "0 0 72 10", preserveAspectRatio: "none", "aria-hidden": "true" }, strip), figure(scale.high), note ? h("span", {}, note) : null);
}
