"""Which versions harness works with: the environments that ``noxfile.py`` tries, and the report on them."""
