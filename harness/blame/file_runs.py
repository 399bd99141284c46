"""Run an exported file for evidence: without optimization, and on runtimes that share no code with the target's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from harness.exporters import Artifact
from harness.registry import plugins
from harness.result import Blame, Stage, Symptom
from harness.runtimes import Runtime, Session
from harness.runtimes._messages import informative_part
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

STAGES_OF_THE_RUNTIME: frozenset[Stage] = frozenset({"load", "run"})
"""The stages that a runtime can end."""

SYMPTOMS_OF_THE_FILE: frozenset[Symptom] = frozenset({"exception", "unsupported"})
"""Symptoms that say something about the file. A lack of memory or of a device does not."""


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


def run_file(runtime: Runtime, artifact: Artifact, options: Mapping[str, str], inputs: Answer) -> Answer:
    """The answer of ``runtime`` for the file. Raises what the runtime raises."""
    session = runtime.load(artifact, options)
    try:
        return session.run(inputs)
    finally:
        session.close()


def run_without_optimizer(target: Target, artifact: Artifact, inputs: Answer, evidence: list[str]) -> Answer | None:
    """The answer of the target's runtime with graph optimization off.

    None if the runtime has no such option, if optimization is off already, or if the run fails, which is added to
    ``evidence``: some graphs run only when they are optimized.
    """
    runtime = plugins("runtimes")[target.runtime]
    if "optimization" not in runtime.options or target.options.get("optimization") == "disabled":
        return None
    try:
        return run_file(runtime, artifact, {**target.options, "optimization": "disabled"}, inputs)
    except Exception as error:  # noqa: BLE001 - see the docstring
        evidence.append(f"with graph optimization off the same file does not run: {error_summary(error)}")
        return None


def error_summary(error: Exception) -> str:
    """The class of an exception and the informative part of its message."""
    message = informative_part(str(error))
    return f"{type(error).__name__}: {message[:200] or 'no message'}"


def attribute_stopped(
    target: Target, artifact: Artifact, symptom: Symptom, gives_expected: Callable[[Session], bool]
) -> tuple[Blame | None, tuple[str, ...]]:
    """``optimizer`` and the evidence if the file loads and runs with graph optimization off; else None and no evidence.

    ``gives_expected`` runs a session on the inputs of the check, and tells whether all answers are the expected ones.
    """
    runtime = plugins("runtimes")[target.runtime]
    has_optimizer = "optimization" in runtime.options and target.options.get("optimization") != "disabled"
    if symptom not in SYMPTOMS_OF_THE_FILE or not has_optimizer:
        return None, ()
    unoptimized = replace(target, options={**target.options, "optimization": "disabled"})
    try:
        session = runtime.load(artifact, unoptimized.options)
        try:
            right = gives_expected(session)
        finally:
            session.close()
    except Exception:  # noqa: BLE001 - it fails without optimization too, so optimization is not the cause
        return None, ()
    answer = "the expected answer" if right else "another answer than the expected one"
    return "optimizer", (f"on {unoptimized}, with graph optimization off, the same file loads and runs, with {answer}",)
