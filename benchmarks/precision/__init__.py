"""Whether verdicts about lower precision can be trusted: see :mod:`benchmarks.precision.bench`."""
