"""What is replayed: the shipped specs, recorded models, and ONNX's backend tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import yaml

from benchmarks import real_material
from benchmarks.replay.recorded_models import make_recorded_models

NETS = "light"
"""The folder of whole nets in ONNX's backend tests; they are replayed as recorded models."""
PARTS = ("specs", "recorded", "backend")
RUNTIMES = {"ort-cpu": "onnxruntime", "openvino": "openvino", "tract": "tract", "reference": "onnx"}
"""The runtimes for recorded models, each with the package that it needs."""


@dataclass(frozen=True, slots=True)
class Part:
    """One run of ``harness run`` on each side. Relative ``paths`` are those of the side's own tree."""

    name: str
    about: str
    paths: tuple[str, ...]
    targets: tuple[str, ...] = ()
    known_failures: Path | None = None


def prepare(names: Sequence[str], folders: Sequence[Path], scratch: Path) -> list[Part]:
    """The parts called ``names``. ``folders`` hold further recorded models; ``scratch`` takes what is generated.

    Recorded models and backend tests are written once, so that both sides read the same files.
    """
    suite = scratch / "onnx"
    if {"recorded", "backend"} & set(names):
        real_material.collect(suite)
        (suite / NETS).rename(scratch / NETS)
    parts = []
    if "specs" in names:
        parts.append(Part("specs", "the shipped specs of each side, on their default targets", ("specs",)))
    if "recorded" in names:
        models = scratch / "recorded"
        make_recorded_models(models / "made")
        (scratch / NETS).rename(models / NETS)
        targets = tuple(f"file/{runtime}" for runtime in installed())
        further = "".join(f", {folder}" for folder in folders)
        about = f"models made for the replay, right and wrong, and the whole nets that onnx ships{further}"
        parts.append(Part("recorded", about, (str(models), *map(str, folders)), targets))
    if "backend" in names:
        about = "ONNX's backend tests as the installed onnx ships or generates them"
        parts.append(Part("backend", about, (str(suite),), real_material.TARGETS, _known_failures(scratch)))
    return parts


def installed() -> list[str]:
    """The runtimes for recorded models that this environment has."""
    return [runtime for runtime, package in RUNTIMES.items() if find_spec(package) is not None]


def left_out(names: Sequence[str]) -> list[str]:
    """What is not replayed, one line each."""
    lines = [f"{part}: not requested" for part in PARTS if part not in names]
    missing = [runtime for runtime in RUNTIMES if runtime not in installed()]
    if "recorded" in names:
        lines += [f"recorded models on {runtime}: {RUNTIMES[runtime]} is not installed" for runtime in missing]
    if "backend" in names:
        lines.append("backend tests on openvino and tract: these run the recorded models only")
    return lines


def _known_failures(scratch: Path) -> Path:
    """The lists for ONNX's tests in one file, without the entries about whole nets: an entry must match a case."""
    texts = [file.read_text(encoding="utf-8") for file in real_material.lists()]
    entries = [entry for text in texts for entry in yaml.safe_load(text) if not entry["cases"].startswith(NETS)]
    path = scratch / "known-failures.yaml"
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")
    return path
