"""A first spec for a model file: the file on its runtimes, compared with what it says itself.

:func:`first_file_spec` is called in a separate process, which loads the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.check.files.drawing import BATCH, IMAGE, SEQUENCE
from harness.check.files.signatures import Declared, read_file_signature
from harness.errors import StageError, UsageError, escape_path
from harness.result import Result, Stage
from harness.scaffold import FILE_HEADER, FirstSpec, NoSpec, flow
from harness.scaffold.comparison import NoComparison, Question, cases_of, comparison_spec, moved_spec
from harness.spec.discovery import spec_folder
from harness.spec.language.inputs.names import as_label
from harness.spec.model_files import stored_model
from harness.spec.targets.sets import targets_of

NAME = "model"
OTHER_SIZES = {BATCH: 1, SEQUENCE: 5, IMAGE: 48}
"""Further sizes of open axes, by the one that was chosen."""


def first_file_spec(
    scratch: Path,
    file: str,
    shapes: Sequence[tuple[int, ...]],
    inputs: Sequence[str],
    home: Path,
    output: Path,
    *,
    announce: Callable[[Stage], None],
) -> FirstSpec | NoSpec:
    """The first spec of the model file ``file``, as it is written to ``output``. All of its cases were run.

    ``shapes`` are those of the inputs in order, if the user gave them; ``inputs`` are data files.
    """
    from harness.check.stages import message_of

    os.chdir(home)
    announce("build")
    try:
        stored = stored_model(Path(file))
        declared = read_file_signature(stored).inputs
        if len(shapes) > len(declared):
            return NoSpec(f"--input: {len(shapes)} shapes, and {file} has {len(declared)} inputs; give one for each")
        named = {each.name: shape for each, shape in zip(declared, shapes, strict=False)}
        asked = comparison_spec(scratch, Question(file, file, home, tuple(inputs), named), announce=announce)
        if isinstance(asked, NoComparison):
            problems = "; ".join(dict.fromkeys(asked.problems))
            return NoSpec(re.sub(r"--shape \S+=", "--input ", problems))
        (case,) = asked.spec["cases"]
        case = {key: value for key, value in case.items() if key not in {"name", "seed"}} | {"files": {NAME: file}}
        cases = [{"name": "as-it-is", **case}]
        problem = _problem(scratch, cases[0], home)
        if problem is not None:
            return NoSpec(f"{escape_path(file)}: {problem}; give other inputs with --inputs FILE")
        if other := _at_other_sizes(cases[0], declared):
            cases += [other] * (_problem(scratch, other, home) is None)
        spec = moved_spec({"cases": cases}, home, spec_folder(output))
    except (UsageError, StageError) as error:
        return NoSpec(str(error))
    except Exception as error:  # noqa: BLE001 - a damaged file: it is a line for the user
        return NoSpec(f"{escape_path(file)}: cannot be loaded: {message_of(error)}")
    return FirstSpec("\n".join(_lines(file, spec["cases"])) + "\n", stored.runs_code)


def _at_other_sizes(case: Mapping[str, Any], declared: Sequence[Declared]) -> dict[str, Any] | None:
    """The case at other sizes of the open axes whose sizes were chosen; None if there are none."""
    changed = {}
    for each in declared:
        entry = case["inputs"].get(as_label(each.name), {})
        shape, sizes = entry.get("shape"), each.shape
        if shape is None or sizes is None or len(shape) != len(sizes):
            continue
        other = [
            size if isinstance(known, int) else OTHER_SIZES.get(size, size)
            for size, known in zip(shape, sizes, strict=True)
        ]
        if other != shape:
            changed[as_label(each.name)] = {**entry, "shape": other}
    if not changed:
        return None
    return {**case, "name": "other-sizes", "inputs": {**case["inputs"], **changed}}


def _problem(scratch: Path, case: Mapping[str, Any], home: Path) -> str | None:
    """Why the file does not answer the case; None if it does, rightly or not."""
    result = _result(scratch, case, home)
    return (result.message or result.symptom) if result.status == "error" else None


def _result(scratch: Path, case: Mapping[str, Any], home: Path) -> Result:
    from harness.check.cache.artifacts import ArtifactCache
    from harness.check.check import check
    from harness.check.files.contexts import CaseContexts
    from harness.check.settings import Settings
    from harness.check.stages import Clock

    (resolved,) = cases_of({"harness": 1, "cases": [dict(case)]}, "init", home)
    resolved = replace(resolved, draws=1)
    target = targets_of(NAME, resolved.files[NAME])[0]
    clock = Clock(lambda _stage: None, scratch)
    return check(
        CaseContexts(resolved, ArtifactCache(None, scratch)).of(target), target, Settings(latency=False), clock
    )


def _lines(file: str, cases: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    first, *others = cases
    yield FILE_HEADER.rstrip()
    yield f"about: {flow(f'{Path(file).name} on its runtimes, compared with what the file says.')}"
    yield f"file: {flow(first['file'])}"
    yield "defaults:"
    yield f"  files: {flow(first['files'])}"
    yield f"  inputs: {flow(first['inputs'])}"
    if "samples" in first:
        yield f"  samples: {flow(first['samples'])}"
    yield "cases:"
    yield "  - name: as-it-is"
    for case in others:
        yield f"  - name: {case['name']}"
        yield "    about: Other sizes of the open axes."
        changed = {label: entry for label, entry in case["inputs"].items() if entry != first["inputs"][label]}
        yield f"    inputs: {flow({label: {'shape': entry['shape']} for label, entry in changed.items()})}"
