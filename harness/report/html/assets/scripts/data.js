// The report's data. A check is a list of positions in a table of distinct values; here it becomes an object again.
const packed = JSON.parse(document.getElementById("data").textContent);

const targets = packed.targets;
const named = (names, values) => Object.fromEntries(values.map((value, at) => [names[at], value ?? undefined]));

function timedOf(values) {
  const timed = named(packed.timed, values);
  const figures = (packedFigures) => packedFigures.map((one) => named(packed.figure, one));
  timed.conditions ??= {};
  timed.by_shape = figures(timed.by_shape ?? []);
  timed.beside = Object.fromEntries(Object.entries(timed.beside ?? {}).map(([name, one]) => [name, named(packed.figure, one)]));
  return timed;
}

const checks = packed.checks.map((positions, number) => {
  const check = { number };
  packed.fields.forEach((field, at) => {
    check[field] = packed.values[positions[at]];
  });
  if (check.latency) check.latency = timedOf(check.latency);
  return check;
});

const STATUSES = ["passed", "failed", "error", "known", "fixed", "skipped"];
const WRONG = new Set(["failed", "error", "fixed"]);

// JSON has no number for these three; the report writes them as strings.
const NOT_FINITE = { nan: NaN, inf: Infinity, "-inf": -Infinity };
const real = (value) => (typeof value === "string" ? NOT_FINITE[value] : value);

function grouped(items, key) {
  const groups = new Map();
  for (const item of items) {
    const name = key(item);
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(item);
  }
  return groups;
}

const placeOf = new Map(checks.map((check) => [`${check.case}\n${check.target}`, check]));
const find = (name, target) => placeOf.get(`${name}\n${target}`);
