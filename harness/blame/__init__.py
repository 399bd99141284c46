"""Which hop is to blame for a disagreement: exporter, optimizer, kernel, rounding, torch or spec; and the evidence."""
