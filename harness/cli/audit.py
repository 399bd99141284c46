"""``harness audit``: find the mutants (wrong layers) that no case of the specs kills."""

from __future__ import annotations

import click

from harness.cli.options import ALLOW_IMPORT, KEYWORDS, PATHS
from harness.cli.process import echo, tell_unmatched

EXAMPLES = """
\b
Examples:
  harness audit specs/                                      all cases
  harness audit specs/ -k linear                            one family of cases
"""


@click.command(epilog=EXAMPLES, short_help="Find mutants (wrong layers) that no case kills.")
@PATHS
@KEYWORDS
@ALLOW_IMPORT
def audit(paths: tuple[str, ...], keywords: tuple[str, ...], allow_import: bool) -> int:
    """Replace each layer by wrong ones (mutants), and show which mutants survive.

    Exits 1 if a mutant survives every case that it was tried on, or if a case kills no mutant.
    """
    import warnings

    from harness.audit import text
    from harness.audit.audit import audit as run_audit
    from harness.engine.processes.temporary import temporary_folder
    from harness.plan import select_cases, unmatched_keywords
    from harness.spec.discovery import load_specs

    every = load_specs(paths, allow_import=allow_import).cases
    cases = select_cases(every, keywords)
    tell_unmatched(unmatched_keywords(every, keywords))
    with temporary_folder() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's warnings about a mutant say nothing about the case
        result = run_audit(cases, scratch)
    echo(text(result))
    return 0 if result.passed else 1


COMMANDS = (audit,)
