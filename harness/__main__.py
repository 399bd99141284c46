"""``python -m harness`` is ``harness``."""

# First of all: Python has put the working directory before its own modules, and whatever is there is not to be run.
import sys

from harness import search_path

if __name__ == "__main__":
    sys.path[:] = search_path.installed()


def main() -> None:
    """Run the command line; a library that is too old or missing is one line, where it would be a traceback."""
    try:
        from harness.cli import main as run_command_line

        run_command_line()
    except (ImportError, AttributeError, TypeError):
        from harness.environment import unsupported

        line = unsupported()
        if line is None:
            raise
        sys.stderr.write(f"{line}\n")
        sys.exit(3)


if __name__ == "__main__":
    main()
