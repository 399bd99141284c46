// A logarithmic axis: the position of a value between `start` and `end`, and the values that get a line.
function logAxis(values, start, end, { least = 0.35, apart = 60 } = {}) {
  const logs = values.filter((value) => Number.isFinite(value) && value > 0).map(Math.log10);
  let low = logs.reduce((one, other) => Math.min(one, other), Infinity);
  let high = logs.reduce((one, other) => Math.max(one, other), -Infinity);
  const missing = Math.max(0, least - (high - low)) / 2;
  const margin = missing + (high - low) * 0.03;
  [low, high] = [low - margin, high + margin];
  const at = (value) => start + ((Math.log10(value) - low) / (high - low)) * (end - start);
  return { at, start, end, ticks: ticksBetween(low, high, Math.max(2, Math.abs(end - start) / apart)) };
}

// As many round values as fit: even steps if the axis is less than a decade, else the same values in each decade.
const STEPS_OF_TEN = [[1, 1.5, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]];

function ticksBetween(low, high, limit) {
  const fits = (ticks) => ticks.length > 1 && farEnough(ticks, low, high, limit);
  const even = high - low < 0.8 ? evenSteps(10 ** low, 10 ** high).find(fits) : null;
  const ticks = even ?? STEPS_OF_TEN.map((steps) => roundValues(low, high, steps)).find(fits);
  if (ticks) return ticks;
  const decades = roundValues(low, high, [1]);
  return decades.filter((_, at) => at % Math.ceil(decades.length / limit) === 0);
}

// Multiples of a round step, for larger and larger steps.
function evenSteps(least, most) {
  const finest = Math.floor(Math.log10(most - least)) - 2;
  const steps = [0, 1, 2].flatMap((more) => [1, 2, 5].map((step) => step * 10 ** (finest + more)));
  return steps.map((step) => {
    const first = Math.ceil(least / step);
    return Array.from({ length: Math.floor(most / step) - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(6)));
  });
}

// Whether there is enough space between all neighbours.
const farEnough = (ticks, low, high, limit) =>
  ticks.every((tick, at) => at === 0 || Math.log10(tick / ticks[at - 1]) / (high - low) >= 1 / limit);

function roundValues(low, high, steps) {
  const values = [];
  for (let decade = Math.floor(low); decade <= high; decade += 1) {
    for (const step of steps) {
      const value = Number((step * 10 ** decade).toPrecision(3));
      if (Math.log10(value) >= low && Math.log10(value) <= high) values.push(value);
    }
  }
  return values;
}

// The grid lines of the axis from `top` to `bottom`, with their values above or below.
function gridOf(axis, top, bottom, format, labelAt = bottom + 15) {
  return axis.ticks.map((tick) => [
    s("line", { class: "grid", x1: axis.at(tick), x2: axis.at(tick), y1: top, y2: bottom }),
    s("text", { class: "muted", x: axis.at(tick), y: labelAt, "text-anchor": "middle" }, format(tick)),
  ]);
}
