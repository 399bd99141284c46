"""``harness check``, ``list`` and ``schema``: validate and list specs, without torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.options import ALLOW_IMPORT, AS_JSON, KEYWORDS, PATHS, TARGETS, flat
from harness.cli.process import echo, tell_unmatched

if TYPE_CHECKING:
    from harness.errors import Problem
    from harness.spec.language.case import Case
    from harness.spec.targets import Target

CHECK_EXAMPLES = """
\b
Examples:
  harness check specs/                                      a folder, with its targets and known failures
  harness check specs/avgpool2d.yaml specs/relu.yaml        single files
  harness check --any-yaml config.yaml nets/relu.yaml       the files of a commit
"""
LIST_EXAMPLES = """
\b
Examples:
  harness list specs/                                       every case, and the default targets
  harness list specs/ -k divisor --targets 'onnx-*'         what a run with these options would do
  harness list specs/relu.yaml::signed --json               one case, for a program
"""
SCHEMA_EXAMPLES = """
\b
Examples:
  harness schema > specs/harness.schema.json                then begin each spec with this line:
  # yaml-language-server: $schema=harness.schema.json
"""


@click.command(epilog=CHECK_EXAMPLES, short_help="Validate specs, targets and known failures.")
@PATHS
@click.option(
    "--any-yaml",
    is_flag=True,
    help="PATHs are any YAML files, such as those of a commit: check the specs among them, each folder by itself.",
)
@ALLOW_IMPORT
def check(paths: tuple[str, ...], *, any_yaml: bool, allow_import: bool) -> int:
    """Validate specs, targets and known failures. Answers at once; torch is loaded for weights from files alone."""
    from harness.errors import SpecError
    from harness.spec.discovery import known_failures_for, load_specs
    from harness.spec.quoting import count_of

    problems: list[Problem] = []
    lines = []
    for group in _groups(paths) if any_yaml else [paths]:
        try:
            specs = load_specs(group, allow_import=allow_import)
            known = known_failures_for(specs, group)
            _require_fitting_weights(specs.cases)
        except SpecError as error:
            problems += error.problems
            continue
        cases, files = count_of(len(specs.cases), "case"), count_of(len(specs.files), "file")
        counted = f"{cases} in {files}, {count_of(len(specs.target_sets.all), 'target')}"
        lines.append(f"{counted}, {count_of(len(known), 'known failure')}: all valid")
    if problems:
        raise SpecError(problems)
    echo("\n".join(lines) or "no specs among these files")
    return 0


def _require_fitting_weights(cases: Sequence[Case]) -> None:
    if sys.platform == "linux":  # elsewhere no process can be contained, and `harness run` says so
        from harness.engine.preflight import require_fitting_weights

        require_fitting_weights(cases, exporting=False)


def _groups(paths: Sequence[str]) -> list[tuple[str, ...]]:
    """The specs among ``paths`` by the folder of their targets; the whole folder for a list that belongs to it."""
    from harness.spec import KNOWN_FAILURES_FILE, TARGETS_FILE, is_spec_file
    from harness.spec.discovery import spec_folder

    lists = {TARGETS_FILE, KNOWN_FAILURES_FILE}
    groups: dict[str, list[str]] = {}
    for path in map(Path, paths):
        if path.name in lists:
            below = [file for file in path.parent.rglob("*.yaml") if file.name not in lists]
            specs = [str(file) for file in below if is_spec_file(file)]
            if specs:  # stale entries are found in a whole folder alone
                whole = [str(path.parent)] if len(specs) == len(below) else specs
                groups.setdefault(os.path.realpath(path.parent), []).extend(whole)
        elif is_spec_file(path):
            groups.setdefault(os.path.realpath(spec_folder(path).root or ""), []).append(str(path))
    return [tuple(group) for group in groups.values()]


@click.command("list", epilog=LIST_EXAMPLES, short_help="List the cases and the targets of a run.")
@PATHS
@TARGETS
@KEYWORDS
@AS_JSON
@ALLOW_IMPORT
def list_(
    paths: tuple[str, ...],
    *,
    targets: tuple[tuple[str, ...], ...],
    keywords: tuple[str, ...],
    as_json: bool,
    allow_import: bool,
) -> int:
    """List the cases and the targets of a run."""
    import json

    from harness.exporters._onnx import require_existing_opsets
    from harness.plan import plan
    from harness.spec.discovery import load_specs
    from harness.spec.quoting import count_of
    from harness.spec.targets.sets import DEFAULT_SET

    specs = load_specs(paths, allow_import=allow_import)
    words = flat(targets) or (DEFAULT_SET,)
    selected = specs.target_sets.select(words)
    require_existing_opsets(selected)
    planned = plan(
        specs.cases, selected, keywords, None, by_default=specs.target_sets if words == (DEFAULT_SET,) else None
    )
    tell_unmatched(planned.unmatched)
    if as_json:
        echo(
            json.dumps(
                {"cases": [_entry(case, targets) for case, targets in planned.jobs], "checks": planned.checks}, indent=1
            )
        )
        return 0
    for case, _ in planned.jobs:
        samples = f"({count_of(len(case.samples), 'further sample')})" if case.samples else ""
        echo("  ".join(filter(None, (case.id, case.about, samples))))
    echo("\n" + "\n".join(f"{target}" for target in selected))
    cases, columns = count_of(len(planned.jobs), "case"), count_of(len(selected), "target")
    echo(f"\n{cases} x {columns} = {count_of(planned.checks, 'check')}")
    return 0


def _entry(case: Case, targets: Sequence[Target]) -> dict[str, object]:
    """A case and the targets that it would run on, in types that JSON has."""
    names = [str(target) for target in targets]
    return {
        "id": case.id,
        "about": case.about or None,
        "where": str(case.where),
        "samples": len(case.samples),
        "targets": names,
    }


@click.command(epilog=SCHEMA_EXAMPLES)
def schema() -> int:
    """Print the JSON Schema of specs, for editors."""
    import json

    from harness.spec.language.schema import json_schema

    echo(json.dumps(json_schema(), indent=2))
    return 0


COMMANDS = (
    check,
    list_,
    schema,
)
