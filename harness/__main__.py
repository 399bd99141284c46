"""``python -m harness`` is ``harness``."""

# First of all: Python has put the working directory before its own modules, and whatever is there is not to be run.
import sys

from harness import search_path

if __name__ == "__main__":
    sys.path[:] = search_path.installed()

from harness.cli import main

if __name__ == "__main__":
    main()
