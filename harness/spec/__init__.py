"""From YAML to cases: plain data, with the place in the file kept, and no torch."""
