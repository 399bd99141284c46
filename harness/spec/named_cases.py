"""``FILE::CASE``: one case of a spec, named on the command line as pytest names a test.

A case with a matrix has many points; its name alone stands for all of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.errors import RequestError
from harness.spec.language.case import Case
from harness.spec.quoting import join_names, suggestion


def path_and_case(text: Path | str) -> tuple[Path, str]:
    """The parts of ``FILE::CASE``; the case is empty for a path alone, and for a file that has this very name.

    Raises :class:`RequestError` if a folder or nothing stands before the colons.
    """
    path, _, case = str(text).partition("::")
    if not case or os.path.lexists(text):
        return Path(text), ""
    if not path or Path(path).is_dir():
        raise RequestError(
            f"{text}: a case is one of a file; write {Path(path) / 'FILE.yaml'}::{case}, or use -k {case}"
        )
    return Path(path), case


def named_cases(cases: Sequence[Case], names: Sequence[str], file: Path, stem: str) -> tuple[Case, ...]:
    """The cases of ``file`` that ``names`` name: a case with all points of its matrix, or one point.

    ``stem`` is the beginning of the file's ids. Raises :class:`RequestError` for a name without a case.
    """
    points = {case.id.removeprefix(f"{stem}/"): case for case in cases}
    known = dict.fromkeys(point.partition("[")[0] for point in points)
    for name in names:
        if name not in known and name not in points:
            remedy = suggestion(name, known, f"its cases are {join_names(known)}")
            raise RequestError(f"{file}::{name}: no such case; {remedy}")
    return tuple(case for point, case in points.items() if {point, point.partition("[")[0]} & {*names})
