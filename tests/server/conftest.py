"""Fixtures of the server tests."""

from data_dirs import data_dir

__all__ = ["data_dir"]
