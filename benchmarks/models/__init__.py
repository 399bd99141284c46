"""Whole models from torchvision and transformers with random weights: no false alarm, and power."""
