"""The targets of a file under test, which a spec names under ``files``: ``file:NAME/RUNTIME``."""

from __future__ import annotations

from collections.abc import Mapping

from harness.registry import plugins
from harness.spec.language.case import ModelFormat, StoredModel
from harness.spec.targets import TESTED_FILE, Target, runs_format

DEFAULT_RUNTIMES: Mapping[ModelFormat, str] = {
    "onnx": "ort-cpu",
    "ort": "ort-cpu",
    "torchscript": "torch-cpu",
    "program": "export-cpu",
    "aoti": "aoti-cpu",
}
"""The runtime of a file under test if none is named, by its format."""


def targets_of(name: str, file: StoredModel) -> tuple[Target, ...]:
    """The targets of a file under test, the default one first: its file on each runtime that runs its format."""
    default = Target(f"{TESTED_FILE}{name}", DEFAULT_RUNTIMES[file.format])
    runtimes = [each for each, runtime in plugins("runtimes").items() if runs_format(runtime, file.format)]
    return (default, *(Target(default.exporter, each) for each in runtimes if each != default.runtime))


def tested_target(name: str, word: str) -> str:
    """The target of the file ``name`` on ``word``: a runtime, or transforms and a runtime (``+fp16/ort-cpu``)."""
    return f"{TESTED_FILE}{name}{word if word.startswith('+') else f'/{word}'}"
