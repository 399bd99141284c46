"""What is replayed: the shipped specs, recorded models, and ONNX's backend tests."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import onnx
import yaml
from onnx import NodeProto

from benchmarks import real_material
from benchmarks.replay.recorded_models import make_recorded_models

NETS = "light"
"""The folder of whole nets in ONNX's backend tests; they are replayed as recorded models."""
PARTS = ("specs", "recorded", "backend")
RUNTIMES = {"ort-cpu": "onnxruntime", "openvino": "openvino", "tract": "tract", "reference": "onnx"}
"""The runtimes for recorded models, each with the package that it needs."""


DRAWING = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""ONNX's operators that draw random numbers. Dropout draws too, but ONNX's evaluator gives it a seed."""


@dataclass(frozen=True, slots=True)
class Part:
    """One run of ``harness run`` on each side. Relative ``paths`` are those of the side's own tree.

    ``left_out`` says what of the material is not replayed, and why.
    """

    name: str
    about: str
    paths: tuple[str, ...]
    targets: tuple[str, ...] = ()
    known_failures: Path | None = None
    left_out: tuple[str, ...] = ()


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
        absent = tuple(
            f"recorded models on {runtime}: {package} is not installed"
            for runtime, package in RUNTIMES.items()
            if runtime not in installed()
        )
        paths = (str(models), *map(str, folders))
        parts.append(Part("recorded", about, paths, targets, left_out=absent))
    if "backend" in names:
        drawing = unseeded(suite)
        for case in drawing:
            shutil.rmtree(suite / case)
        absent = (
            f"backend tests that draw random numbers without a seed: {', '.join(drawing)}",
            "backend tests on openvino and tract: these run the recorded models only",
        )
        about = "ONNX's backend tests as the installed onnx ships or generates them"
        known = _known_failures(scratch)
        parts.append(Part("backend", about, (str(suite),), real_material.TARGETS, known, absent))
    return parts


def installed() -> list[str]:
    """The runtimes for recorded models that this environment has."""
    return [runtime for runtime, package in RUNTIMES.items() if find_spec(package) is not None]


def unseeded(suite: Path) -> list[str]:
    """The cases under ``suite`` whose graph draws random numbers without a seed.

    ONNX's evaluator draws new numbers in each process, so these cases differ from run to run.
    """
    return [
        path.parent.relative_to(suite).as_posix()
        for path in sorted(suite.rglob("model.onnx"))
        if any(_draws_unseeded(node) for node in onnx.load(path, load_external_data=False).graph.node)
    ]


def _draws_unseeded(node: NodeProto) -> bool:
    return node.op_type in DRAWING and not any(attribute.name == "seed" for attribute in node.attribute)


def _known_failures(scratch: Path) -> Path:
    """The lists for ONNX's tests in one file, without the entries about whole nets: an entry must match a case."""
    texts = [file.read_text(encoding="utf-8") for file in real_material.lists()]
    entries = [entry for text in texts for entry in yaml.safe_load(text) if not entry["cases"].startswith(NETS)]
    path = scratch / "known-failures.yaml"
    path.write_text(yaml.safe_dump(entries), encoding="utf-8")
    return path
