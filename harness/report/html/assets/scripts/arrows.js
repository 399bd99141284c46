// Arrow keys move between the cells of a table, Home and End to the ends of a row. Tab works as usual.
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function moveByArrows(event) {
  const from = event.target.closest("th, td");
  if (!from || event.altKey || event.ctrlKey || event.metaKey) return;
  const to = STEPS[event.key] ? neighbour(from, ...STEPS[event.key]) : atEnd(from, event.key);
  if (!to) return;
  event.preventDefault();
  to.focus();
  to.scrollIntoView({ block: "nearest", inline: "nearest" });
}

// The nearest control in that direction. Up and down stay in their column. The heads of groups are in the first column:
// down from a head leads to the cells below it, and up from these cells back to the head.
function neighbour(from, down, right) {
  if (right) {
    for (let cell = from; (cell = right > 0 ? cell.nextElementSibling : cell.previousElementSibling);) {
      if (control(cell)) return control(cell);
    }
    return null;
  }
  const rows = [...from.closest("table").rows];
  const start = rows.indexOf(from.parentElement);
  const ahead = down > 0 ? rows.slice(start + 1) : rows.slice(0, start).reverse();
  const column = from.cellIndex;
  const [next] = column === 0 ? ahead.map(first).filter(Boolean) : ahead.map((row) => control(row.cells[column])).filter(Boolean);
  return next ?? ahead.map(first).find(Boolean) ?? null;
}

const first = (row) => [...row.cells].map(control).find(Boolean) ?? null;

function atEnd(from, key) {
  const controls = [...from.parentElement.cells].map(control).filter(Boolean);
  return key === "Home" ? controls[0] : key === "End" ? controls.at(-1) : null;
}

const control = (cell) => cell?.querySelector("a, button") ?? null;
