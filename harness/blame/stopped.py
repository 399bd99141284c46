"""Attribute a load or a run that did not finish to graph optimization, by loading and running the file without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from harness.exporters import Artifact
from harness.registry import plugins
from harness.result import Blame, Stage, Symptom
from harness.runtimes import Session
from harness.spec.targets import Target

STAGES_OF_THE_RUNTIME: frozenset[Stage] = frozenset({"load", "run"})
"""The stages that a runtime can end."""

SYMPTOMS_OF_THE_FILE: frozenset[Symptom] = frozenset({"exception", "unsupported"})
"""Symptoms that say something about the file. A lack of memory or of a device does not."""


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
