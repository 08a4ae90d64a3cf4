"""Fixtures of the command tests."""

from data_dirs import data_dir

__all__ = ["data_dir"]
