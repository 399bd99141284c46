"""``harness audit``: what the specs could not see."""

from __future__ import annotations

import click

from harness.cli.options import ALLOW_IMPORT, KEYWORDS, PATHS
from harness.cli.process import say

EXAMPLES = """
\b
Examples:
  harness audit specs/                                      all of them
  harness audit specs/ -k linear                            one family of cases
"""


@click.command(epilog=EXAMPLES, short_help="Tell which cases would not notice a wrong layer.")
@PATHS
@KEYWORDS
@ALLOW_IMPORT
def audit(paths: tuple[str, ...], keywords: tuple[str, ...], allow_import: bool) -> int:
    """Show which cases could not tell a wrong layer from the right one; exits 1 where there is such a gap."""
    import warnings

    from harness.audit.audit import audit as look
    from harness.audit.result import text
    from harness.engine.processes.temporary import temporary_folder
    from harness.plan import named
    from harness.spec.discovery import load

    cases = named(load(paths, allow_import=allow_import).cases, keywords)
    with temporary_folder() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch has to say of a mutant is no news of the case
        found = look(cases, scratch)
    say(text(found))
    return 0 if found.passed else 1


COMMANDS = (audit,)
