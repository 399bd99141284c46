"""What :mod:`benchmarks.fuzz_readers` is made of: material, ways to spoil it, and the readers that must bear it."""
