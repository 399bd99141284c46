"""YAML specs to cases: plain data that keep their location in the file. torch is not imported."""
