"""A change to anything that an export depends on exports again; other changes use the cache."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import harness as package
from harness import environment
from harness.check.cache.entry import key
from harness.spec.discovery import load_specs
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
def cached_spec(harness: Call, here: Path, spec: Callable[[str, str], Path]) -> Path:
    """A spec whose exports are in the cache."""
    path = spec("layers.yaml", LAYERS)
    (here / "cache/artifacts/00/of-an-older-run").mkdir(parents=True)
    assert made(harness("run", "specs", *ON).report) == EXPORTS
    return path


def made(report: dict[str, dict[str, dict[str, int]]]) -> int:
    """Return the number of exports that a run made."""
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
def test_a_change_of_an_export_exports_again(harness: Call, cached_spec: Path, old: str, new: str) -> None:
    cached_spec.write_text(LAYERS.replace(old, new), encoding="utf-8")
    assert made(harness("run", "specs", *ON).report) == 1
    assert made(harness("run", "specs", *ON).report) == 0


def test_other_changes_do_not_export_again(harness: Call, cached_spec: Path) -> None:
    text = "about: A description.\n\n# and other line numbers\ncases:"
    case = "name: given, tolerance: exact, expect: {shape: [1, 1]}"
    cached_spec.write_text(LAYERS.replace("cases:", text).replace("name: given", case), encoding="utf-8")
    assert made(harness("run", "specs", *ON).report) == 0


def another_version(folder: Path) -> Path:
    """A package folder with another version of onnxscript than the installed one."""
    note = folder / "onnxscript-999.0.dist-info" / "METADATA"
    note.parent.mkdir(parents=True)
    note.write_text("Metadata-Version: 2.1\nName: onnxscript\nVersion: 999.0\n", encoding="utf-8")
    return folder


def changed_code(folder: Path) -> Path:
    """A package folder with a copy of harness with changed code in one exporter."""
    shutil.copytree(Path(package.__file__).parent, folder / "harness")
    with (folder / "harness/exporters/torchscript.py").open("a", encoding="utf-8") as code:
        code.write("\n# changed\n")
    return folder


@pytest.mark.parametrize("make_folder", [another_version, changed_code])
def test_the_exporting_code_belongs_to_the_export(
    cached_spec: Path, here: Path, make_folder: Callable[[Path], Path]
) -> None:
    assert cached_spec.exists()
    code, _, err = Running(here, "run", "specs", *ON, paths=[make_folder(here / "packages")]).end()
    assert (code, err) == (0, "")
    assert made(report_in(here / "reports/latest")) == EXPORTS


def test_code_compiled_for_one_cpu_is_not_used_on_another(
    spec: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = load_specs([spec("layers.yaml", LAYERS)]).cases[0]

    def keys(processor: dict[str, str]) -> list[str]:
        monkeypatch.setattr(environment, "_cpuinfo", lambda: processor)
        environment.cpu_signature.cache_clear()
        return [key(case, parse_target(target)) for target in ("trace/torch-cpu", "aoti/aoti-cpu")]

    first, second = keys({"flags": "avx2 avx512f"}), keys({"flags": "avx2"})
    environment.cpu_signature.cache_clear()
    assert first[0] == second[0]
    assert first[1] != second[1]
