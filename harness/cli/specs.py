"""``harness check``, ``list`` and ``schema``: what the specs say, without torch."""

from __future__ import annotations

from collections.abc import Sized

import click

from harness.cli.options import ALLOW_IMPORT, KEYWORDS, PATHS, TARGETS, flat
from harness.cli.process import say

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
  harness list specs/ -k divisor --targets 'onnx-*'         what a run with these words would do
"""
SCHEMA_EXAMPLES = """
\b
Examples:
  harness schema > specs/harness.schema.json                then begin each spec with this line:
  # yaml-language-server: $schema=harness.schema.json
"""


@click.command(epilog=CHECK_EXAMPLES, short_help="Validate specs, targets and known failures, at once.")
@PATHS
@ALLOW_IMPORT
def check(paths: tuple[str, ...], allow_import: bool) -> int:
    """Validate specs, targets and known failures; answers at once, without torch."""
    from harness.spec.discovery import listed, load

    specs = load(paths, allow_import=allow_import)
    known = listed(specs, paths)
    cases, files = _count(specs.cases, "case"), _count(specs.files, "file")
    counted = f"{cases} in {files}, {_count(specs.target_sets.all, 'target')}"
    say(f"{counted}, {_count(known, 'known failure')}: all valid")
    return 0


def _count(things: Sized, thing: str) -> str:
    return _counted(len(things), thing)


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


@click.command("list", epilog=LIST_EXAMPLES, short_help="List the cases and the targets of a run.")
@PATHS
@TARGETS
@KEYWORDS
@ALLOW_IMPORT
def list_(
    paths: tuple[str, ...], targets: tuple[tuple[str, ...], ...], keywords: tuple[str, ...], allow_import: bool
) -> int:
    """List the cases and the targets that a run would take them to."""
    from harness.plan import plan
    from harness.spec.discovery import load

    specs = load(paths, allow_import=allow_import)
    chosen = specs.target_sets.select(flat(targets) or ("default",))
    work = plan(specs.cases, chosen, keywords, None)
    for case, _ in work.work:
        say(f"{case.id}  {case.about}".rstrip())
    say("\n" + "\n".join(f"{target}" for target in chosen))
    cases, taken_to = [case for case, _ in work.work], _count(chosen, "target")
    say(f"\n{_count(cases, 'case')} x {taken_to} = {_counted(work.checks, 'check')}")
    return 0


@click.command(epilog=SCHEMA_EXAMPLES)
def schema() -> int:
    """Print the JSON Schema of specs, for editors."""
    import json

    from harness.spec.language.schema import json_schema

    say(json.dumps(json_schema(), indent=2))
    return 0


COMMANDS = (
    check,
    list_,
    schema,
)
