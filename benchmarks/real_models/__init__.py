"""Whole models of torchvision and transformers, for `harness compare` and for a plain script beside it."""
