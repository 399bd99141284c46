"""The parts of the benchmark: each measures in a folder of its own and tells rows of figure, demand and outcome."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.speed.process import Ended, fresh, harness
from benchmarks.speed.work import ROOT, TARGETS, many, shipped, write_data, write_spec


@dataclass(frozen=True)
class Row:
    """One figure beside what is asked of it; ``better`` is the side of ``bound`` on which it must lie."""

    what: str
    figure: float
    bound: float
    unit: str
    at_least: bool
    how: str

    @property
    def met(self) -> bool:
        """True where the figure is as good as asked."""
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound


@dataclass(frozen=True)
class Size:
    """How much work each part does."""

    cases: int
    rounds: int
    pair: int
    models: int
    many: tuple[int, ...]


QUICK = Size(cases=25, rounds=1, pair=80, models=3, many=(10, 150, 600))
WHOLE = Size(cases=150, rounds=3, pair=500, models=20, many=(10, 100, 1000, 10_000))


def plain_loop(size: Size, folder: Path) -> list[Row]:
    """Checks a second beside the plain loop; the two take turns, and each ratio is of two runs side by side."""
    pieces = shipped(size.cases)
    spec, data = write_spec(pieces, folder / "spec"), write_data(pieces, folder / "cases.json")
    ratios, said = [], ""
    for number in range(size.rounds):
        ours = harness(spec, _made(folder / str(number)))
        theirs = fresh(["-m", "benchmarks.speed.plain_loop", str(data)], cwd=_made(folder / f"plain-{number}"))
        ratios.append(theirs.seconds / ours.seconds)
        said = f"{_checks(folder / str(number))} checks in {ours.seconds:.1f} s; the loop took {theirs.seconds:.1f} s"
    how = f"{said} and passed {theirs.said.splitlines()[-1]}; start and reports included"
    return [Row("checks a second, one worker, over the plain loop", statistics.median(ratios), 5, "times", True, how)]


def two_workers(size: Size, folder: Path) -> list[Row]:
    """The same run with one worker and with two, in turn."""
    spec = write_spec(shipped(size.pair), folder / "spec")
    pairs = [
        [harness(spec, _made(folder / f"{number}-{workers}"), workers=workers).seconds for workers in (1, 2)]
        for number in range(size.rounds)
    ]
    how = "; ".join(f"{one:.1f} s and {two:.1f} s" for one, two in pairs) + f" over {size.pair} cases"
    return [Row("two workers over one", statistics.median(one / two for one, two in pairs), 1.8, "times", True, how)]


def own_share(size: Size, folder: Path) -> list[Row]:
    """What of a worker's time is harness's own."""
    spec = write_spec(shipped(size.cases), folder / "spec")
    shares = []
    for _ in range(size.rounds):
        fresh(["-m", "benchmarks.speed.own_share", str(spec), str(folder / "f.json")], cwd=folder)
        found = json.loads((folder / "f.json").read_text(encoding="utf-8"))
        shares.append(100 * (1 - sum(found["doors"].values()) / found["whole"]))
    doors = sorted(found["doors"].items(), key=lambda door: -door[1])
    inside = ", ".join(f"{name} {100 * seconds / found['whole']:.1f} %" for name, seconds in doors)
    how = f"of a worker's time, script apart; in the libraries, counted at their doors: {inside}"
    return [Row("harness's own share of the time", statistics.median(shares), 10, "%", False, how)]


def second_run(size: Size, folder: Path) -> list[Row]:
    """A first run, then the same again over what it exported."""
    spec, ratios, made = write_spec(shipped(size.pair), folder / "spec"), [], 0
    for number in range(size.rounds):
        place = _made(folder / str(number))
        first, second = harness(spec, place), harness(spec, place)
        ratios.append(first.seconds / second.seconds)
        made += _report(place)["run"]["exports"]["made"]
    how = f"{first.seconds:.1f} s, then {second.seconds:.1f} s over {size.pair} cases, start and reports included"
    return [
        Row("a second run, nothing changed", statistics.median(ratios), 5, "times", True, how),
        Row("exports that second runs made", made, 0, "exports", False, "as their reports count them"),
    ]


def polygraphy(size: Size, folder: Path) -> list[Row]:
    """``polygraphy run MODEL --onnxrt`` a model, beside harness over all models that it has exported already."""
    spec = write_spec(shipped(size.pair), folder / "spec")
    onnx = ["--targets", ",".join(target for target in TARGETS if target.startswith("onnx-"))]
    harness(spec, folder, *onnx)
    ours = harness(spec, folder, *onnx)
    checks = _checks(folder)
    models = sorted((folder / "cache").rglob("model.onnx"))
    drawn = [models[at * len(models) // size.models] for at in range(size.models)]
    # What its own command calls; the package cannot be run with -m.
    command = ["-c", "from polygraphy.tools import main; main()", "run", "--onnxrt", "--silent"]
    theirs = [fresh([*command, str(model)], cwd=folder).seconds for model in drawn]
    each, other = ours.seconds / checks, statistics.median(theirs)
    how = f"{1e3 * each:.1f} ms a check over {checks} checks of {len(models)} models, reports included; "
    how += f"{other:.2f} s a model over {size.models} of them"
    return [Row("seconds a comparison, under polygraphy's", other / each, 100, "times", True, how)]


def many_cases(size: Size, folder: Path) -> list[Row]:
    """Runs of more and more cases on the two quick targets."""
    few = ["--targets", "trace/torch-cpu,onnx-torchscript@17/ort-cpu"]
    runs: dict[int, Ended] = {}
    for count in size.many:
        place = _made(folder / str(count))
        runs[count] = harness(write_spec(many(count), place / "spec"), place, *few, formats="json,md,html")
    first, *rest = sorted(runs)
    start = runs[first].seconds
    each = [(runs[count].seconds - start) / (count - first) for count in rest]
    how = "; ".join(f"{count}: {run.seconds:.1f} s, {run.peak_mb:.0f} MB" for count, run in sorted(runs.items()))
    spread = 100 * (max(each) / min(each) - 1)
    return [
        Row("seconds a case beyond the first ten, from run to run", spread, 10, "% apart", False, how),
        Row("memory of the parent, reports written", max(run.peak_mb for run in runs.values()), 300, "MB", False, how),
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


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _report(folder: Path) -> dict[str, dict[str, dict[str, int]]]:
    report: dict[str, dict[str, dict[str, int]]] = json.loads((folder / "report" / "report.json").read_bytes())
    return report


def _checks(folder: Path) -> int:
    summary: dict[str, object] = _report(folder)["summary"]  # type: ignore[assignment]
    return int(str(summary["checks"]))
