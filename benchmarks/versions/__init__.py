"""The versions that harness works with: the environments of ``noxfile.py``, and the report on them."""
