"""``python -m harness``: the same as the command ``harness``."""

# Before all other imports: Python puts the working directory first on sys.path, and no module there may be imported.
import sys

from harness import search_path

if __name__ == "__main__":
    sys.path[:] = search_path.installed_path()


def main() -> None:
    """Run the command line. A library that is missing or too old is reported in one line, not as a traceback."""
    try:
        from harness.cli import main as run_command_line

        run_command_line()
    except (ImportError, AttributeError, TypeError):  # how an import of a library that is too old fails
        from harness.environment import dependency_problem

        line = dependency_problem()
        if line is None:
            raise
        sys.stderr.write(f"{line}\n")
        sys.exit(3)


if __name__ == "__main__":
    main()
