"""The parts of the benchmark: each measures in a folder of its own and tells rows of figure, demand and outcome."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.process import Ended, checks, fresh, harness, made, report_in
from benchmarks.speed.profiles import after_start, portions, stages_of
from benchmarks.speed.steps import OF_OTHERS
from benchmarks.speed.work import ROOT, TARGETS, many, shipped, write_data, write_spec


@dataclass(frozen=True)
class Row:
    """One figure beside what is asked of it. ``why`` is the profile that says where the time goes, line by line."""

    what: str
    figure: float
    bound: float
    unit: str
    at_least: bool
    how: str
    why: Sequence[str] = ()

    @property
    def met(self) -> bool:
        """True where the figure is as good as asked."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound


@dataclass(frozen=True)
class Size:
    """How much work each part does. ``looped`` cases go through the plain loop, all shipped specs ``again``."""

    looped: int
    cases: int
    rounds: int
    again: bool
    models: int
    many: Mapping[int, int]


QUICK = Size(looped=25, cases=80, rounds=1, again=False, models=3, many={10: 3, 150: 2, 600: 1})
WHOLE = Size(looped=50, cases=500, rounds=2, again=True, models=12, many={10: 9, 100: 9, 1000: 4, 10_000: 1})
"""``many``: how many cases, and how often such a run is made: the shorter it is, the more its start is felt."""


def plain_loop(size: Size, folder: Path) -> list[Row]:
    """Checks a second beside the plain loop; the two take turns, and each ratio is of two runs side by side."""
    pieces = shipped(size.looped)
    spec, data = write_spec(pieces, folder / "spec"), write_data(pieces, folder / "cases.json")
    ratios, said, why = [], "", []
    for number in range(size.rounds):
        ours = harness(spec, folder / str(number))
        theirs = fresh(["-m", "benchmarks.speed.plain_loop", str(data)], cwd=made(folder / f"plain-{number}"))
        ratios.append(theirs.seconds / ours.seconds)
        said = f"{checks(folder / str(number))} checks in {ours.seconds:.1f} s; the loop took {theirs.seconds:.1f} s"
        why = stages_of({"harness": ours})
    how = f"{said} and passed {theirs.said.splitlines()[-1]}; start and reports included"
    what = "checks a second, one worker, over the plain loop"
    return [Row(what, statistics.median(ratios), 5, "times", True, how, why)]


def two_workers(size: Size, folder: Path) -> list[Row]:
    """The same run with one worker and with two, in turn."""
    spec = write_spec(shipped(size.cases), folder / "spec")
    pairs = [
        [harness(spec, folder / f"{number}-{workers}", workers=workers) for workers in (1, 2)]
        for number in range(size.rounds)
    ]
    how = "; ".join(f"{one.seconds:.1f} s and {two.seconds:.1f} s" for one, two in pairs)
    ratio = statistics.median(one.seconds / two.seconds for one, two in pairs)
    one, two = pairs[-1]
    why = stages_of({"one worker": one, "two workers": two})
    return [Row("two workers over one", ratio, 1.8, "times", True, f"{how} over {size.cases} cases", why)]


def own_share(size: Size, folder: Path) -> list[Row]:
    """What of a worker's time is harness's own."""
    spec = write_spec(shipped(size.cases), folder / "spec")
    runs = [_timed(spec, folder) for _ in range(size.rounds)]
    last = runs[-1]
    how = f"of a worker's time, script apart: {1e3 * last.own / last.checks:.2f} ms a check, beside "
    how += f"{1e3 * (last.whole - last.own) / last.checks:.1f} ms in the libraries, counted at their public calls: "
    how += ", ".join(portions(last.libraries, last.whole))
    how += f"; of a disk on which a folder is made with two files and moved in {_made_and_moved(folder):.0f} us"
    stepped, again = _timed(spec, folder, "--steps"), _timed(spec, folder, "--again").again
    others = sum(stepped.steps[name] for name in OF_OTHERS)
    elsewhere = (
        "are little more than calls of the file system, of copy.deepcopy, and of the libraries outside those calls"
    )
    called = "inputs filled, definitions, answers compared, sums of files and lines of the journal"
    meanwhile = "while the libraries work, what these steps need leaves the processor's caches"
    why = [
        f"with every step timed too, which takes its own time, it is {stepped.share:.1f} %, as follows",
        *portions(stepped.steps, stepped.whole),
        f"of these, {100 * others / stepped.whole:.1f} % {elsewhere}",
        f"{called} take {100 * again:.0f} % of their time when each is called again at once: {meanwhile}",
    ]
    share = statistics.median(run.share for run in runs)
    return [Row("harness's own share of the time", share, 10, "%", False, how, why)]


@dataclass(frozen=True)
class _Timed:
    """A worker's seconds, by harness's own steps and by library calls, over so many checks.

    ``again`` is what part of their time some steps take when they are called again at once, where that was measured.
    """

    checks: int
    libraries: Mapping[str, float]
    steps: Mapping[str, float]
    again: float

    @property
    def own(self) -> float:
        return sum(self.steps.values())

    @property
    def whole(self) -> float:
        return self.own + sum(self.libraries.values())

    @property
    def share(self) -> float:
        """Harness's own, in percent."""
        return 100 * self.own / self.whole


def _timed(spec: Path, folder: Path, *more: str) -> _Timed:
    fresh(["-m", "benchmarks.speed.own_share", str(spec), str(folder / "f.json"), *more], cwd=folder)
    found = json.loads((folder / "f.json").read_text(encoding="utf-8"))
    return _Timed(found["checks"], found["libraries"], found["own"], found["again"] or 0.0)


def _made_and_moved(folder: Path) -> float:
    """What an export cannot do without, in microseconds: a folder with two files, made and moved to another."""
    drafts, places = made(folder / "drafts"), made(folder / "places")

    def keep(name: str) -> float:
        began = time.perf_counter()
        (drafts / name).mkdir()
        for file in ("model", "note"):
            (drafts / name / file).write_bytes(bytes(2000))
        (drafts / name).rename(places / name)
        return 1e6 * (time.perf_counter() - began)

    return statistics.median(keep(str(number)) for number in range(500))


def second_run(size: Size, folder: Path) -> list[Row]:
    """A first run, then the same again over what it exported."""
    spec = ROOT / "specs" if size.again else write_spec(shipped(size.cases), folder / "spec")
    first, second = harness(spec, folder), harness(spec, folder)
    how = f"{first.seconds:.1f} s, then {second.seconds:.1f} s for {checks(folder)} checks, start and reports included"
    again = report_in(folder)["run"]["exports"]["made"]
    why = stages_of({"the first run": first, "the second run": second})
    return [
        Row("a second run, nothing changed", first.seconds / second.seconds, 5, "times", True, how, why),
        Row("exports that the second run made", again, 0, "exports", False, "as its report counts them"),
    ]


def polygraphy(size: Size, folder: Path) -> list[Row]:
    """``polygraphy run MODEL --onnxrt`` a model, beside harness over all models that it has exported already."""
    spec = write_spec(shipped(size.cases), folder / "spec")
    onnx = ["--targets", ",".join(target for target in TARGETS if target.startswith("onnx-"))]
    harness(spec, folder, *onnx)
    ours = harness(spec, folder, *onnx)
    compared = checks(folder)
    models = sorted((folder / "cache").rglob("model.onnx"))
    drawn = [models[at * len(models) // size.models] for at in range(size.models)]
    # What its own command calls; the package cannot be run with -m.
    command = ["-c", "from polygraphy.tools import main; main()", "run", "--onnxrt", "--silent"]
    theirs = [fresh([*command, str(model)], cwd=folder).seconds for model in drawn]
    each, other = ours.seconds / compared, statistics.median(theirs)
    how = f"{1e3 * each:.1f} ms a check over {compared} checks of {len(models)} models, reports included; "
    how += f"{other:.2f} s a model over {size.models} of them"
    return [Row("seconds a comparison, under polygraphy's", other / each, 100, "times", True, how)]


def many_cases(size: Size, folder: Path) -> list[Row]:
    """Runs of few and of many cases on the two quick targets; the short ones stand before and after the long one."""
    few = ["--targets", "trace/torch-cpu,onnx-torchscript@17/ort-cpu"]
    specs = {count: write_spec(many(count), folder / f"{count}") for count in size.many}
    turns = sorted(((number + 0.5) / times, count) for count, times in size.many.items() for number in range(times))
    runs: dict[int, list[Ended]] = {count: [] for count in size.many}
    for turn, count in turns:
        place = folder / f"{count}-{turn}"
        runs[count].append(harness(specs[count], place, *few, formats="json,md,html"))
    seconds = {count: statistics.median(map(after_start, ended)) for count, ended in runs.items()}
    first, *rest = sorted(runs)
    each = {count: (seconds[count] - seconds[first]) / (count - first) for count in rest}
    how = "; ".join(f"{count:,} cases: {seconds[count]:.2f} s once the libraries are loaded" for count in runs)
    how += "; a case beyond the first ten: " + ", ".join(f"{1e3 * took:.2f} ms" for took in each.values())
    spread = 100 * (max(each.values()) / min(each.values()) - 1)
    peaks = {count: max(run.peak_mb for run in ended) for count, ended in runs.items()}
    held = "; ".join(f"{count:,} cases: {peak:.0f} MB" for count, peak in peaks.items())
    why = stages_of({f"{count:,} cases": ended[-1] for count, ended in runs.items()})
    return [
        Row("seconds a case beyond the first ten, from run to run", spread, 10, "% apart", False, how, why),
        Row("memory of the parent, reports written", max(peaks.values()), 300, "MB", False, held),
    ]


def answers(size: Size, folder: Path) -> list[Row]:
    """What a person waits for who only asks."""
    rows = []
    for words, bound in ((["--help"], 0.15), (["check", str(ROOT / "specs")], 1.0)):
        command = ["-X", "importtime", "-m", "harness", *words]
        loaded = set(re.findall(r"\|\s+(torch|onnx|onnxruntime)$", fresh(command, cwd=folder).said, re.MULTILINE))
        times = [fresh(["-m", "harness", *words], cwd=folder).seconds for _ in range(4 + size.rounds)]
        how = f"median of {len(times)}; imports of torch, onnx or onnxruntime: {', '.join(sorted(loaded)) or 'none'}"
        rows.append(Row(f"harness {words[0]}", statistics.median(times), 0 if loaded else bound, "s", False, how))
    return rows


PARTS: dict[str, Callable[[Size, Path], list[Row]]] = {
    "plain-loop": plain_loop,
    "two-workers": two_workers,
    "own-share": own_share,
    "second-run": second_run,
    "polygraphy": polygraphy,
    "many-cases": many_cases,
    "answers": answers,
}
