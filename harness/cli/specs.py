"""``harness check``, ``list`` and ``schema``: validate and list specs, without torch."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING

import click

from harness.cli.options import ALLOW_IMPORT, AS_JSON, KEYWORDS, PATHS, TARGETS, flat
from harness.cli.process import echo

if TYPE_CHECKING:
    from harness.spec.language.case import Case
    from harness.spec.targets import Target

CHECK_EXAMPLES = """
\b
Examples:
  harness check specs/                                      a folder, with its targets and known failures
  harness check specs/avgpool2d.yaml specs/relu.yaml        single files
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
@ALLOW_IMPORT
def check(paths: tuple[str, ...], allow_import: bool) -> int:
    """Validate specs, targets and known failures. Answers at once, without torch."""
    from harness.spec.discovery import known_failures_for, load_specs

    specs = load_specs(paths, allow_import=allow_import)
    known = known_failures_for(specs, paths)
    cases, files = _count(specs.cases, "case"), _count(specs.files, "file")
    counted = f"{cases} in {files}, {_count(specs.target_sets.all, 'target')}"
    echo(f"{counted}, {_count(known, 'known failure')}: all valid")
    return 0


def _count(items: Sized | int, noun: str) -> str:
    number = items if isinstance(items, int) else len(items)
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


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
    from harness.spec.targets.sets import DEFAULT_SET

    specs = load_specs(paths, allow_import=allow_import)
    words = flat(targets) or (DEFAULT_SET,)
    selected = specs.target_sets.select(words)
    require_existing_opsets(selected)
    planned = plan(specs.cases, selected, keywords, None, by_default=words == (DEFAULT_SET,))
    if as_json:
        echo(
            json.dumps(
                {"cases": [_entry(case, targets) for case, targets in planned.jobs], "checks": planned.checks}, indent=1
            )
        )
        return 0
    for case, _ in planned.jobs:
        samples = f"({_count(case.samples, 'further sample')})" if case.samples else ""
        echo("  ".join(filter(None, (case.id, case.about, samples))))
    echo("\n" + "\n".join(f"{target}" for target in selected))
    cases, columns = _count(planned.jobs, "case"), _count(selected, "target")
    echo(f"\n{cases} x {columns} = {_count(planned.checks, 'check')}")
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
