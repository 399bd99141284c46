"""The parts of the benchmark. Each measures in its own folder and returns rows with a figure and its goal."""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.large_models import NETS, compared
from benchmarks.speed.process import Finished, checks, created, harness, report_in, run_python
from benchmarks.speed.profiles import after_start, portions, stages_of
from benchmarks.speed.steps import MOSTLY_EXTERNAL
from benchmarks.speed.work import ROOT, TARGETS, many, shipped, write_data, write_spec


@dataclass(frozen=True)
class Row:
    """One figure and its goal. ``how`` describes the measurement; ``why`` is a profile of the time, line by line."""

    what: str
    figure: float
    bound: float
    unit: str
    at_least: bool
    how: str
    why: Sequence[str] = ()

    @property
    def met(self) -> bool:
        """True if the figure reaches its goal."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound


@dataclass(frozen=True)
class Size:
    """How much work each part does. ``looped`` is the number of cases in the plain loop.

    ``again`` runs all shipped specs twice.
    """

    looped: int
    cases: int
    rounds: int
    again: bool
    models: int
    many: Mapping[int, int]


QUICK = Size(looped=25, cases=80, rounds=1, again=False, models=3, many={10: 3, 150: 2, 600: 1})
WHOLE = Size(looped=50, cases=500, rounds=2, again=True, models=12, many={10: 9, 100: 9, 1000: 4, 10_000: 1})
"""``many`` maps a number of cases to the number of runs; the start-up has more influence on short runs."""


def plain_loop(size: Size, folder: Path) -> list[Row]:
    """Checks per second relative to the plain loop. The two alternate, and each ratio is of two consecutive runs."""
    pieces = shipped(size.looped)
    spec, data = write_spec(pieces, folder / "spec"), write_data(pieces, folder / "cases.json")
    ratios, how, why = [], "", []
    for number in range(size.rounds):
        ours = harness(spec, folder / str(number))
        theirs = run_python(["-m", "benchmarks.speed.plain_loop", str(data)], cwd=created(folder / f"plain-{number}"))
        ratios.append(theirs.seconds / ours.seconds)
        how = f"{checks(folder / str(number))} checks in {ours.seconds:.1f} s; the loop took {theirs.seconds:.1f} s "
        how += f"and passed {theirs.output.splitlines()[-1]}; start and reports included"
        why = stages_of({"harness": ours})
    what = "checks per second, one worker, relative to the plain loop"
    return [Row(what, statistics.median(ratios), 5, "times", True, how, why)]


def two_workers(size: Size, folder: Path) -> list[Row]:
    """The same run with one worker and with two, alternately."""
    spec = write_spec(shipped(size.cases), folder / "spec")
    pairs = [
        [harness(spec, folder / f"{number}-{workers}", workers=workers) for workers in (1, 2)]
        for number in range(size.rounds)
    ]
    how = "; ".join(f"{one.seconds:.1f} s and {two.seconds:.1f} s" for one, two in pairs)
    ratio = statistics.median(one.seconds / two.seconds for one, two in pairs)
    one, two = pairs[-1]
    why = stages_of({"one worker": one, "two workers": two})
    return [Row("two workers relative to one", ratio, 1.8, "times", True, f"{how} over {size.cases} cases", why)]


def own_share(size: Size, folder: Path) -> list[Row]:
    """The share of a worker's time that is harness's own."""
    spec = write_spec(shipped(size.cases), folder / "spec")
    runs = [_timed(spec, folder) for _ in range(size.rounds)]
    last = runs[-1]
    how = f"share of a worker's time without script: {1e3 * last.own / last.checks:.2f} ms per check, and "
    how += f"{1e3 * (last.whole - last.own) / last.checks:.1f} ms in the libraries, timed at their public calls: "
    how += ", ".join(portions(last.libraries, last.whole))
    how += f"; on this disk, creating a folder with two files and moving it takes {_create_and_move_us(folder):.0f} us"
    stepped, again = _timed(spec, folder, "--steps"), _timed(spec, folder, "--again").again
    external = sum(stepped.steps[name] for name in MOSTLY_EXTERNAL)
    calls = "file system calls, copy.deepcopy, and library calls that are not timed"
    repeated = "filling inputs, float64 references, comparing outputs, checksums of files and lines of the journal"
    reason = "while the libraries work, the data of these steps leaves the processor's caches"
    why = [
        f"with a timer on every step, which adds time, the share is {stepped.share:.1f} %",
        *portions(stepped.steps, stepped.whole),
        f"of these, {100 * external / stepped.whole:.1f} % are almost only {calls}",
        f"a second call at once of {repeated} takes {100 * again:.0f} % of the time of the first: {reason}",
    ]
    share = statistics.median(run.share for run in runs)
    return [Row("harness's own share of the time", share, 10, "%", False, how, why)]


@dataclass(frozen=True)
class _Timed:
    """A worker's seconds by harness's own steps and by library calls, over ``checks`` checks.

    ``again`` is the time of a second call made at once, relative to the first, for some steps; 0 if not measured.
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
        """Harness's own share in percent."""
        return 100 * self.own / self.whole


def _timed(spec: Path, folder: Path, *more: str) -> _Timed:
    run_python(["-m", "benchmarks.speed.own_share", str(spec), str(folder / "f.json"), *more], cwd=folder)
    shares = json.loads((folder / "f.json").read_text(encoding="utf-8"))
    return _Timed(shares["checks"], shares["libraries"], shares["own"], shares["again"] or 0.0)


def _create_and_move_us(folder: Path) -> float:
    """Microseconds to create a folder with two files and move it, which every export needs."""
    drafts, places = created(folder / "drafts"), created(folder / "places")

    def keep(name: str) -> float:
        began = time.perf_counter()
        (drafts / name).mkdir()
        for file in ("model", "note"):
            (drafts / name / file).write_bytes(bytes(2000))
        (drafts / name).rename(places / name)
        return 1e6 * (time.perf_counter() - began)

    return statistics.median(keep(str(number)) for number in range(500))


def second_run(size: Size, folder: Path) -> list[Row]:
    """A first run, then the same run with all artifacts in the cache."""
    spec = ROOT / "specs" if size.again else write_spec(shipped(size.cases), folder / "spec")
    first, second = harness(spec, folder), harness(spec, folder)
    how = f"{first.seconds:.1f} s, then {second.seconds:.1f} s for {checks(folder)} checks, start and reports included"
    exported = report_in(folder)["run"]["exports"]["made"]
    why = stages_of({"the first run": first, "the second run": second})
    return [
        Row("a second run without changes", first.seconds / second.seconds, 5, "times", True, how, why),
        Row("exports in the second run", exported, 0, "exports", False, "as counted in its report"),
    ]


def polygraphy(size: Size, folder: Path) -> list[Row]:
    """``polygraphy run MODEL --onnxrt`` for each of some models, and harness on all models, exported before."""
    spec = write_spec(shipped(size.cases), folder / "spec")
    onnx = ["--targets", ",".join(target for target in TARGETS if target.startswith("onnx-"))]
    harness(spec, folder, *onnx)
    ours = harness(spec, folder, *onnx)
    compared = checks(folder)
    models = sorted((folder / "cache").rglob("model.onnx"))
    drawn = [models[at * len(models) // size.models] for at in range(size.models)]
    # The function that its command calls; the package cannot be run with -m.
    command = ["-c", "from polygraphy.tools import main; main()", "run", "--onnxrt", "--silent"]
    theirs = [run_python([*command, str(model)], cwd=folder).seconds for model in drawn]
    each, other = ours.seconds / compared, statistics.median(theirs)
    how = f"{1e3 * each:.1f} ms per check over {compared} checks of {len(models)} models, reports included; "
    how += f"{other:.2f} s per model over {size.models} of them"
    return [Row("polygraphy's time per comparison, relative to harness's", other / each, 100, "times", True, how)]


def many_cases(size: Size, folder: Path) -> list[Row]:
    """Runs of few and of many cases on the two fast targets; the short ones are made before and after the long one."""
    few = ["--targets", "trace/torch-cpu,onnx-torchscript@17/ort-cpu"]
    specs = {count: write_spec(many(count), folder / f"{count}") for count in size.many}
    turns = sorted(((number + 0.5) / times, count) for count, times in size.many.items() for number in range(times))
    runs: dict[int, list[Finished]] = {count: [] for count in size.many}
    for turn, count in turns:
        place = folder / f"{count}-{turn}"
        runs[count].append(harness(specs[count], place, *few, formats="json,md,html"))
    seconds = {count: statistics.median(map(after_start, ended)) for count, ended in runs.items()}
    first, *rest = sorted(runs)
    each = {count: (seconds[count] - seconds[first]) / (count - first) for count in rest}
    how = "; ".join(f"{count:,} cases: {seconds[count]:.2f} s after the libraries are loaded" for count in runs)
    how += "; per case beyond the first ten: " + ", ".join(f"{1e3 * took:.2f} ms" for took in each.values())
    spread = 100 * (max(each.values()) / min(each.values()) - 1)
    peaks = {count: max(run.peak_mb for run in ended) for count, ended in runs.items()}
    memory = "; ".join(f"{count:,} cases: {peak:.0f} MB" for count, peak in peaks.items())
    why = stages_of({f"{count:,} cases": ended[-1] for count, ended in runs.items()})
    return [
        Row("time per case beyond the first ten, between runs", spread, 10, "% apart", False, how, why),
        Row("memory of the parent, reports included", max(peaks.values()), 300, "MB", False, memory),
    ]


def answers(size: Size, folder: Path) -> list[Row]:
    """The time of commands that run no check."""
    rows = []
    for words, bound in ((["--help"], 0.15), (["check", str(ROOT / "specs")], 1.0)):
        command = ["-X", "importtime", "-m", "harness", *words]
        loaded = set(
            re.findall(r"\|\s+(torch|onnx|onnxruntime)$", run_python(command, cwd=folder).output, re.MULTILINE)
        )
        times = [run_python(["-m", "harness", *words], cwd=folder).seconds for _ in range(4 + size.rounds)]
        how = f"median of {len(times)}; imports of torch, onnx or onnxruntime: {', '.join(sorted(loaded)) or 'none'}"
        rows.append(Row(f"harness {words[0]}", statistics.median(times), 0 if loaded else bound, "s", False, how))
    return rows


def page(_size: Size, folder: Path) -> list[Row]:
    """The HTML report of ten thousand checks, in Chromium."""
    from benchmarks.speed.page import CHECKS, OPENED, WRONG, measure

    figures = measure(folder)
    slowest = max(figures.filters, key=lambda name: figures.filters[name])
    of = f"report.html of {CHECKS:,} checks, {CHECKS * WRONG:,.0f} of them not as expected"
    each = "; ".join(f"{name} {seconds:.2f} s" for name, seconds in figures.filters.items())
    paint, size_mb = figures.first_paint, figures.size / 1e6
    return [
        Row("first paint of the page of 10,000 checks", paint, 1.0, "s", False, f"{of}; median of {OPENED}"),
        Row("its slowest filter", figures.filters[slowest], 0.2, "s", False, f"until the next frame: {each}"),
        Row("its size", size_mb, 8.0, "MB", False, of),
    ]


def large_models(size: Size, folder: Path) -> list[Row]:
    """Large models, each once by the plain script and once by harness, in turn; the best of each side."""
    rows = []
    for net in NETS if size.again else NETS[:1]:
        pairs = [compared(net, folder / net.name) for _ in range(size.rounds)]
        plain, ours = (min(costs, key=lambda cost: cost.seconds) for costs in zip(*pairs, strict=True))
        how = (
            f"{ours.seconds:.1f} s and {plain.seconds:.1f} s; best of {len(pairs)} in turn, start and reports included"
        )
        title = f"{net.title}, relative to the plain script"
        rows.append(Row(title, ours.seconds / plain.seconds, net.time, "times its time", False, how))
        memory = (
            f"{ours.peak_mb:,.0f} MB and {plain.peak_mb:,.0f} MB at the peak, all processes, without pages of files"
        )
        ratio = ours.peak_mb / plain.peak_mb
        rows.append(Row(title, ratio, net.memory, "times its memory", False, memory))
    return rows


PARTS: dict[str, Callable[[Size, Path], list[Row]]] = {
    "plain-loop": plain_loop,
    "two-workers": two_workers,
    "own-share": own_share,
    "large-models": large_models,
    "second-run": second_run,
    "polygraphy": polygraphy,
    "many-cases": many_cases,
    "answers": answers,
    "page": page,
}
