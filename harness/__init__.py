"""harness: shows whether an exported model still computes what the trained model computes.

Four functions do from Python what the command line does: :func:`run`, :func:`verify`, :func:`compare_models` and
:func:`compare`.
"""

from harness import search_path

with search_path.InstalledFirst():
    from harness import deprecated

    deprecated.accept_old_modules()
    # Imported first: importing the package harness.compare later would replace the function of the same name.
    import harness.compare  # noqa: F401
    from harness.api import compare, compare_models, run, verify

__all__ = ["compare", "compare_models", "run", "verify"]
__version__ = "0.1.0"
