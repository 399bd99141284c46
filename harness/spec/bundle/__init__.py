"""A bundle: cases packed with their files and reference answers."""
