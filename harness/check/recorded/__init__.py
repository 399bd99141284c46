"""Cases whose reference answers come from a file: recorded models and bundles."""
