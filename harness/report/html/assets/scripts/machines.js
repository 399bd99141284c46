// The same check on several machines, such as a host and a board: the ratio of its latency to that on the first one.
const ON = " on ";
const [firstMachine, ...otherMachines] = packed.machines;

const withoutMachine = (target) => target.split(ON)[0];
const machineOf = (target) => target.split(ON)[1] ?? "";

function acrossMachines(timed) {
  const onFirst = timed.filter((check) => check.target.endsWith(ON + firstMachine));
  return otherMachines.flatMap((machine) => [...grouped(onFirst, (check) => check.target)].map(([target, checked]) => {
    const other = `${withoutMachine(target)}${ON}${machine}`;
    const points = checked.map((check) => [check, find(check.case, other)]).filter(([, there]) => there?.latency).map(([here, there]) => againstHere(here, there));
    return { name: other, target: other, points };
  })).filter(({ points }) => points.length);
}

// The interval from the ends of both: its confidence is at least 90 %.
function againstHere({ latency: here }, there) {
  const { latency } = there;
  const hasIntervals = latency.low_us && latency.high_us && here.low_us && here.high_us;
  return {
    check: there,
    ratio: latency.median_us / here.median_us,
    low: hasIntervals ? latency.low_us / here.high_us : undefined,
    high: hasIntervals ? latency.high_us / here.low_us : undefined,
    remark: lowConfidence(here) || lowConfidence(latency),
  };
}

// The target on the first machine, for colour and shape: a target looks the same on every machine.
function onFirstMachine(target) {
  const there = `${withoutMachine(target)}${ON}${firstMachine}`;
  return targets.includes(there) ? there : target;
}
