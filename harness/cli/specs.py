"""``harness check``, ``list`` and ``schema``: validate and list specs, without torch."""

from __future__ import annotations

from collections.abc import Sized

import click

from harness.cli.options import ALLOW_IMPORT, KEYWORDS, PATHS, TARGETS, flat
from harness.cli.process import echo

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
@ALLOW_IMPORT
def list_(
    paths: tuple[str, ...], targets: tuple[tuple[str, ...], ...], keywords: tuple[str, ...], allow_import: bool
) -> int:
    """List the cases and the targets of a run."""
    from harness.plan import plan
    from harness.spec.discovery import load_specs
    from harness.spec.targets.sets import DEFAULT_SET

    specs = load_specs(paths, allow_import=allow_import)
    words = flat(targets) or (DEFAULT_SET,)
    selected = specs.target_sets.select(words)
    planned = plan(specs.cases, selected, keywords, None, by_default=words == (DEFAULT_SET,))
    for case, _ in planned.jobs:
        samples = f"({_count(case.samples, 'further sample')})" if case.samples else ""
        echo("  ".join(filter(None, (case.id, case.about, samples))))
    echo("\n" + "\n".join(f"{target}" for target in selected))
    cases, columns = _count(planned.jobs, "case"), _count(selected, "target")
    echo(f"\n{cases} x {columns} = {_count(planned.checks, 'check')}")
    return 0


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
