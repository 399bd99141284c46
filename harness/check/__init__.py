"""One check from start to end: export, load, run and compare one case on one target."""
