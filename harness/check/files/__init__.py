"""Files that are compared with a reference: their signatures, how inputs and outputs are matched, and their checks."""
