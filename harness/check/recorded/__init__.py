"""Cases whose reference answers are read from files: recorded models and bundles."""
