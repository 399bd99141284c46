"""An export is kept by all that it is made of: what makes no difference to it is not exported again, all else is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import harness as package
from harness import environment
from harness.check.cache.key import key
from harness.spec.discovery import load
from harness.spec.targets import parse_target
from tests.conftest import Call
from tests.running import Running, report_in

LAYERS = """
harness: 1
layer: Linear
defaults: {args: {in_features: 2, out_features: 1}, inputs: {x: {shape: [1, 2]}}}
cases:
  - {name: given, weights: {weight: {values: [[1.0, 2.0]]}}, inputs: {x: {values: [[0.5, 0.25]]}}}
  - {name: drawn}
"""
ON = ("--no-latency", "--targets", "trace/torch-cpu")
EXPORTS = 2


@pytest.fixture
def kept(harness: Call, here: Path, spec: Callable[[str, str], Path]) -> Path:
    """The spec, with its exports in the cache."""
    path = spec("layers.yaml", LAYERS)
    (here / "cache/artifacts/00/of-an-older-run").mkdir(parents=True)
    assert made(harness("run", "specs", *ON).report) == EXPORTS
    return path


def made(report: dict[str, dict[str, dict[str, int]]]) -> int:
    """How many exports a run made."""
    counts = report["run"]["exports"]
    assert sum(counts.values()) == EXPORTS
    return counts["made"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[[1.0, 2.0]]", "[[1.0, 2.0000001]]"),
        ("[[0.5, 0.25]]", "[[0.5, 0.75]]"),
        ("name: drawn", "name: drawn, mode: train"),
        ("name: drawn", "name: drawn, seed: 7"),
    ],
)
def test_whatever_goes_into_an_export_makes_it_anew(harness: Call, kept: Path, old: str, new: str) -> None:
    kept.write_text(LAYERS.replace(old, new), encoding="utf-8")
    assert made(harness("run", "specs", *ON).report) == 1
    assert made(harness("run", "specs", *ON).report) == 0


def test_what_does_not_go_into_an_export_leaves_it(harness: Call, kept: Path) -> None:
    said = "about: What is said of them.\n\n# and where they stand\ncases:"
    held = "name: given, tolerance: exact, expect: {shape: [1, 1]}"
    kept.write_text(LAYERS.replace("cases:", said).replace("name: given", held), encoding="utf-8")
    assert made(harness("run", "specs", *ON).report) == 0


def another_version(folder: Path) -> Path:
    """A place to look for packages in, where onnxscript has another version than the one that is installed."""
    note = folder / "onnxscript-999.0.dist-info" / "METADATA"
    note.parent.mkdir(parents=True)
    note.write_text("Metadata-Version: 2.1\nName: onnxscript\nVersion: 999.0\n", encoding="utf-8")
    return folder


def changed_code(folder: Path) -> Path:
    """A place to look for packages in, where this one has other code in one exporter."""
    shutil.copytree(Path(package.__file__).parent, folder / "harness")
    with (folder / "harness/exporters/torchscript.py").open("a", encoding="utf-8") as code:
        code.write("\n# changed\n")
    return folder


@pytest.mark.parametrize("elsewhere", [another_version, changed_code])
def test_what_exports_belongs_to_the_export(kept: Path, here: Path, elsewhere: Callable[[Path], Path]) -> None:
    assert kept.exists()
    code, _, err = Running(here, "run", "specs", *ON, paths=[elsewhere(here / "elsewhere")]).end()
    assert (code, err) == (0, "")
    assert made(report_in(here / "reports/latest")) == EXPORTS


def test_what_is_compiled_for_one_cpu_is_not_taken_to_another(
    spec: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = load([spec("layers.yaml", LAYERS)]).cases[0]

    def keys(processor: dict[str, str]) -> list[str]:
        monkeypatch.setattr(environment, "_cpuinfo", lambda: processor)
        environment.processor.cache_clear()
        return [key(case, parse_target(target)) for target in ("trace/torch-cpu", "aoti/aoti-cpu")]

    one, other = keys({"flags": "avx2 avx512f"}), keys({"flags": "avx2"})
    environment.processor.cache_clear()
    assert one[0] == other[0]
    assert one[1] != other[1]
