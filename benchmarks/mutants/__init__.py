"""Small mutants of the code that decides, held against the tests that should notice them."""
