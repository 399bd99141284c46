"""Directives that ask harness itself, so that the site cannot say something else."""
