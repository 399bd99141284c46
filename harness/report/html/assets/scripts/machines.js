// The same check on several machines, a host and a board: how many times as long it takes on each as on the first.
const ON = " on ";
const [firstMachine, ...otherMachines] = packed.machines;

const withoutMachine = (target) => target.split(ON)[0];
const machineOf = (target) => target.split(ON)[1] ?? "";

function acrossMachines(timed) {
  const own = timed.filter((check) => check.target.endsWith(ON + firstMachine));
  return otherMachines.flatMap((machine) => [...grouped(own, (check) => check.target)].map(([target, checked]) => {
    const other = `${withoutMachine(target)}${ON}${machine}`;
    const points = checked.map((check) => [check, find(check.case, other)]).filter(([, there]) => there?.latency).map(([here, there]) => againstHere(here, there));
    return { name: other, target: other, points };
  })).filter(({ points }) => points.length);
}

// The interval from the ends of both: it holds the ratio of the medians with at least 90% confidence.
function againstHere({ latency: here }, there) {
  const { latency } = there;
  const known = latency.low_us && latency.high_us && here.low_us && here.high_us;
  return {
    check: there,
    ratio: latency.median_us / here.median_us,
    low: known ? latency.low_us / here.high_us : undefined,
    high: known ? latency.high_us / here.low_us : undefined,
    remark: hint(here) || hint(latency),
  };
}

// The target whose colour and shape a chart of one machine gives it: a target looks alike on every machine.
function asOnTheFirst(target) {
  const there = `${withoutMachine(target)}${ON}${firstMachine}`;
  return targets.includes(there) ? there : target;
}
