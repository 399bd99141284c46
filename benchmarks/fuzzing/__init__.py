"""Parts of :mod:`benchmarks.fuzz_readers`: sample files, ways to corrupt them, and the readers that are tested."""
