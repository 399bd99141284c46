// The growth of the error over the layers of a check: local and accumulated, on a log scale. A click on a layer, or the
// arrow keys, show its numbers, and a picture of the error of the first wrong ones.
const LAYER_SERIES = [["accumulated", 0], ["local", 1]];
const LAYERS_HEIGHT = 190;

function layersOf(check) {
  const { show, uncovered, rows, pictures } = check.layers;
  const layers = rows.map((row, number) => ({ ...Object.fromEntries(packed.layer_fields.map((name, at) => [name, row[at]])), picture: pictures[number] }));
  const compared = layers.filter((layer) => layer.local !== null);
  return [
    h("p", {}, `${show}.`),
    compared.length ? growthOfError(compared) : null,
    uncovered.length ? h("p", { class: "small muted" }, `Not covered: ${uncovered.length} (${uncovered.slice(0, 5).join(", ")}${uncovered.length > 5 ? ", ..." : ""})`) : null,
    fold({ class: "layers" }, `All layers: ${layers.length.toLocaleString("en")}`, () => layerTable(layers)),
  ];
}

function growthOfError(layers) {
  const readout = h("p", { class: "readout layer-readout", "aria-live": "polite" });
  const error = h("div");
  const values = layers.flatMap((layer) => [layer.local, layer.accumulated, layer.reference].map(real));
  const positive = values.filter((value) => Number.isFinite(value) && value > 0);
  const least = positive.reduce((one, other) => Math.min(one, other), 1) / 3;
  const most = positive.reduce((one, other) => Math.max(one, other), least) * 3;
  let chosen = Math.max(0, layers.findIndex((layer) => layer.wrong));
  let choose = () => {};
  const figureOf = chart("Error of each layer, on a log scale", (width) => {
    const [left, right, top, bottom] = [54, width - 8, 8, LAYERS_HEIGHT - 26];
    const x = (at) => left + ((at + 0.5) / layers.length) * (right - left);
    const axis = logAxis([least, most], bottom, top, { apart: 34 });
    // Zero is at the bottom, and what is not finite at the top.
    const y = (value) => (value === null ? null : !Number.isFinite(real(value)) ? top : real(value) > 0 ? axis.at(real(value)) : bottom);
    const cursor = s("rect", { class: "layer-cursor", y: top - 4, width: Math.max(6, (right - left) / layers.length), height: bottom - top + 8 });
    choose = (at) => {
      chosen = Math.min(Math.max(at, 0), layers.length - 1);
      cursor.setAttribute("x", x(chosen) - Math.max(6, (right - left) / layers.length) / 2);
      readout.textContent = layerWords(layers[chosen]);
      error.replaceChildren(...[layers[chosen]].filter((layer) => layer.picture).map((layer) => pictureOf({ ...layer.picture, layer: nameOf(layer) })));
    };
    const nearest = (event) => {
      const box = event.currentTarget.getBoundingClientRect();
      choose(Math.floor((((event.clientX - box.left) * width) / box.width - left) / ((right - left) / layers.length)));
    };
    const keys = { ArrowLeft: () => chosen - 1, ArrowRight: () => chosen + 1, Home: () => 0, End: () => layers.length - 1 };
    const plot = s("g", {
      class: "layer-plot", tabindex: "0", role: "group", "aria-label": "Layers in order of execution; the arrow keys choose one",
      onkeydown: (event) => {
        if (!keys[event.key]) return;
        event.preventDefault();
        choose(keys[event.key]());
      },
    }, s("rect", { class: "layer-ground", x: left, y: top, width: right - left, height: bottom - top }), cursor,
    line("layer-reference", layers.map((layer, at) => [x(at), y(layer.reference)])),
    LAYER_SERIES.map(([name, number]) => [
      line(`curve series-${number}`, layers.map((layer, at) => [x(at), y(layer[name])])),
      layers.map((layer, at) => s("circle", { class: `mark series-${number} ${layer.wrong && name === "local" ? "layer-wrong" : ""}`, cx: x(at), cy: y(layer[name]), r: layer.wrong && name === "local" ? 5 : 2 })),
    ]));
    choose(chosen);
    const content = s("g", { onclick: nearest },
      axis.ticks.map((tick) => [
        s("line", { class: "grid", x1: left, x2: right, y1: axis.at(tick), y2: axis.at(tick) }),
        s("text", { class: "muted", x: left - 6, y: axis.at(tick) + 4, "text-anchor": "end" }, figure(tick)),
      ]),
      s("text", { class: "muted", x: left, y: LAYERS_HEIGHT - 6 }, `first: ${nameOf(layers[0])}`),
      s("text", { class: "muted", x: right, y: LAYERS_HEIGHT - 6, "text-anchor": "end" }, layers.length > 1 ? `last: ${nameOf(layers.at(-1))}` : ""),
      s("rect", { class: "layer-whole", width, height: LAYERS_HEIGHT }), plot);
    return { height: LAYERS_HEIGHT, content };
  });
  const keyOf = ([, number], text) => h("li", {}, s("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, s("circle", { class: `mark series-${number}`, r: 4 })), text);
  return h("div", {},
    h("p", { class: "small muted" }, `RMS error against float64 as a share of the values, layer by layer. Click a layer for its numbers${layers.some((layer) => layer.picture) ? "; the first wrong layers have a picture of their error too" : ""}.`),
    h("ul", { class: "legend" }, keyOf(LAYER_SERIES[1], "local: on the reference's inputs"), keyOf(LAYER_SERIES[0], "accumulated: as it came"),
      h("li", {}, s("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, s("path", { class: "layer-reference", d: "M-7 0H7" })), "the reference's own")),
    figureOf, readout, error);
}

const nameOf = (layer) => layer.path || layer.type || "the model";

// A line through the points; it is interrupted where there is no value.
function line(name, points) {
  const path = points.map(([x, y], at) => (y === null ? "" : `${at === 0 || points[at - 1][1] === null ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`));
  return s("path", { class: name, d: path.join("") });
}

function layerWords(layer) {
  const parts = [
    `${layer.path || "the model"}: ${layer.type}${layer.arguments ? `(${layer.arguments})` : ""}`,
    `local ${figure(real(layer.local))}`, `accumulated ${figure(real(layer.accumulated))}`, `the reference's own ${figure(real(layer.reference))}`,
    layer.times === null ? null : `${figure(real(layer.times), 2)} times what rounding explains${layer.wrong ? ": WRONG" : ""}`,
    layer.sqnr === null ? null : `SQNR ${figure(real(layer.sqnr))} dB`,
    layer.seconds === null ? null : `${figure(layer.seconds * 1e6)} \u00b5s`, layer.provider ? `on ${provider(layer)}` : null,
    `output ${JSON.stringify(layer.shape)}`, layer.nodes ? `nodes ${layer.nodes}` : null,
  ];
  return parts.filter(Boolean).join(", ");
}

function provider(layer) {
  return (layer.provider || "-").replaceAll("ExecutionProvider", "");
}

function layerTable(layers) {
  const isFigure = (at) => (at >= 2 && at <= 7 ? "figure" : null);
  const columns = ["layer", "type", "local", "accumulated", "reference", "SQNR (dB)", "x rounding", "\u00b5s", "provider", "nodes"];
  const cells = (layer) => [
    layer.type + (layer.arguments ? `(${layer.arguments})` : ""), ...[layer.local, layer.accumulated, layer.reference, layer.sqnr].map((value) => figure(real(value))),
    (layer.wrong ? "WRONG " : "") + figure(real(layer.times), 2),
    layer.seconds === null ? "-" : figure(layer.seconds * 1e6), provider(layer), layer.judged_with ? `judged with ${layer.judged_with}` : layer.nodes || "-",
  ];
  return scrolled("All layers", h("table", { class: "plain small" },
    h("thead", {}, h("tr", {}, columns.map((name, at) => h("th", { scope: "col", class: isFigure(at) }, name)))),
    h("tbody", {}, layers.map((layer) => h("tr", { class: layer.wrong ? "wrong-layer" : null },
      h("th", { scope: "row" }, breakable(layer.path || "-")), cells(layer).map((text, at) => h("td", { class: isFigure(at + 1) }, text)))))));
}
