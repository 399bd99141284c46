"""Which hop caused a disagreement (exporter, optimizer, kernel, rounding, torch or spec), and the evidence for it."""
