"""The answers of runtimes that share no code with a target's runtime, for the same file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from harness.blame.file_evaluation import error_summary, run_file
from harness.exporters import Artifact
from harness.registry import plugins
from harness.spec.targets import Target

Answer = Mapping[str, NDArray[Any]]

INDEPENDENT_RUNTIMES: Mapping[str, Mapping[str, str]] = {
    "ort-cpu": {"optimization": "disabled"},
    "openvino": {},
    "tract": {},
}
"""The runtimes with their options, in the order in which they are tried.

``onnx.reference`` is not one of them: other evidence comes from it already.
"""

ABORTING_RUNTIMES = frozenset({"tract"})
"""Runtimes that may end the process on an invalid file: tract does, in Rust."""


def independent_answers(
    target: Target, artifact: Artifact, inputs: Answer, evidence: list[str]
) -> Iterator[tuple[str, Answer]]:
    """The names and answers of the independent runtimes that can run the file, one after the other.

    Why a runtime cannot run it is added to ``evidence``.
    """
    for name, options in INDEPENDENT_RUNTIMES.items():
        runtime = plugins("runtimes").get(name)
        if runtime is None or _shares_code(target.runtime, name) or not runtime.availability().present:
            continue
        if name in ABORTING_RUNTIMES and artifact.checker:
            evidence.append(f"{name} was not tried because onnx.checker rejects the file: {artifact.checker}")
            continue
        try:
            outputs = run_file(runtime, artifact, options, inputs)
        except Exception as error:  # noqa: BLE001 - a runtime that cannot run the file is no evidence
            evidence.append(f"{name} cannot run the file: {error_summary(error)}")
            continue
        yield name, outputs


def _shares_code(runtime: str, other: str) -> bool:
    """True if two runtimes are of one library. ``ort-openvino`` is OpenVINO inside ONNX Runtime."""
    return bool({*runtime.split("-")} & {*other.split("-")} - {"cpu"})
