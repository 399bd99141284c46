"""The audit of the specs: mutants (wrong layers) replace each layer in turn; those that survive are listed."""
