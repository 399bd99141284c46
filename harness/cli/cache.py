"""``harness cache``: where exported files are kept between runs, how much they take, and how to remove them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from harness.cli.process import echo
from harness.errors import UsageError

EXAMPLES = """
\b
Examples:
  harness cache                                       the folder, the number of exports and their size
  harness cache clear                                 remove them; the next run exports again
"""


@click.group(epilog=EXAMPLES, invoke_without_command=True, short_help="Show or clear the cache of exported files.")
@click.pass_context
def cache(ctx: click.Context) -> int:
    """Show the folder of the artifact cache, the number of exports in it, and their size.

    The folder is artifacts/ in HARNESS_CACHE, or in the user's cache folder.
    """
    from harness.check.settings import cache_folder
    from harness.spec.quoting import count_of

    if ctx.invoked_subcommand is None:
        folder = cache_folder()
        exports, size = _contents(folder)
        echo(f"{folder}: {count_of(exports, 'export')}, {_megabytes(size)}")
    return 0


CLEAR_EXAMPLES = """
\b
Examples:
  harness cache clear                                 remove all exported files
"""


@cache.command(epilog=CLEAR_EXAMPLES)
def clear() -> int:
    """Remove the exported files. Do not run it while a check runs: its files would be missing."""
    from harness.check.settings import cache_folder
    from harness.spec.quoting import count_of

    folder = cache_folder()
    exports, size = _contents(folder)
    try:
        if folder.is_symlink():
            raise UsageError(f"{folder}: is a link; remove the files in the folder that it names")
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise UsageError(f"{error.filename or folder}: {error.strerror}; make the folder writable") from error
    echo(f"{folder}: {count_of(exports, 'export')} removed, {_megabytes(size)}")
    return 0


def _contents(folder: Path) -> tuple[int, int]:
    """The number of exports in ``folder``, and the bytes of all files in it."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                size += Path(parent, name).lstat().st_size
            except OSError:  # another run removed it meanwhile
                continue
    return sum(1 for _ in folder.glob("??/*")), size


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


COMMANDS = (cache,)
