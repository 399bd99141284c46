"""harness: proof that an exported model is still the model that was trained.

Three functions do from Python what the command line does: :func:`run`, :func:`verify` and :func:`compare`.
"""

from harness import search_path

with search_path.Installed():
    # Loaded first, because loading a room of the same name later would put it in the function's place.
    import harness.compare  # noqa: F401
    from harness.api import compare, run, verify

__all__ = ["compare", "run", "verify"]
__version__ = "0.1.0"
