"""A sample project of our own, as a folder that the reader reads."""

from pathlib import Path

FOLDER = Path(__file__).parent
