"""harness: proof that an exported model is still the model that was trained."""

__version__ = "0.1.0"
