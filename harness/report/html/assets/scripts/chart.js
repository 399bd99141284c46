// Shared by all charts: they fit their width, and each series has its own shape as well as its own colour.
const PAPER = 700;

function chart(label, draw) {
  const holder = h("figure", { class: "chart" });
  let drawn = 0;
  const fit = (width) => {
    if (!width || width === drawn) return;
    drawn = width;
    const { height, content } = draw(width);
    holder.replaceChildren(s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": label }, content));
  };
  new ResizeObserver(() => requestAnimationFrame(() => fit(holder.clientWidth))).observe(holder);
  addEventListener("beforeprint", () => fit(Math.min(holder.clientWidth, PAPER)));
  addEventListener("afterprint", () => fit(holder.clientWidth));
  return holder;
}

const series = new Map(targets.map((target, at) => [target, at]));
const seriesClass = (target) => `series-${(series.get(target) ?? 0) % 8}`;

// After eight series the colours repeat, with other shapes.
function shapeOf(target) {
  const at = series.get(target) ?? 0;
  return SHAPES[(at + Math.floor(at / 8)) % SHAPES.length];
}

// The points of each shape, on a circle of radius 1.
const ring = (corners, turn, radii = [1]) => Array.from({ length: corners }, (_, at) => {
  const angle = ((at + turn) / corners) * 2 * Math.PI - Math.PI / 2;
  return [Math.cos(angle) * radii[at % radii.length], Math.sin(angle) * radii[at % radii.length]];
});
const SHAPES = [
  ring(24, 0), ring(4, 0.5, [1.15]), ring(3, 0, [1.25]), ring(4, 0, [1.25]),
  ring(3, 1.5, [1.25]), ring(10, 0, [1.3, 0.6]), [[-1.2, -0.5], [1.2, -0.5], [1.2, 0.5], [-1.2, 0.5]], [[-0.5, -1.2], [0.5, -1.2], [0.5, 1.2], [-0.5, 1.2]],
];

function mark(target, x, y, radius, more = "") {
  const points = shapeOf(target).map(([dx, dy]) => `${(x + dx * radius).toFixed(1)},${(y + dy * radius).toFixed(1)}`);
  return s("polygon", { class: `mark ${seriesClass(target)} ${more}`, points: points.join(" ") });
}

// A mark that links to its check. `text` is its tooltip and its name for screen readers.
const linked = (check, text, ...content) => s("a", { href: addressOf(check), "aria-label": text }, s("title", {}, text), content);

function legend(shown, further = [], named = (target) => target) {
  return h("ul", { class: "legend" }, [
    shown.map((target) => h("li", {}, s("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, mark(target, 0, 0, 5)), h("code", {}, named(target)))),
    further,
  ]);
}

const eagerKey = () => h("li", {}, s("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, s("path", { class: "whisker eager", d: "M0 -7V7" })), "eager torch");
const lowConfidenceKey = () => h("li", {}, s("svg", { viewBox: "-8 -8 16 16", "aria-hidden": "true" }, s("circle", { class: "mark hint series-0", r: 5 })), "Hollow mark: low confidence, see the check");
