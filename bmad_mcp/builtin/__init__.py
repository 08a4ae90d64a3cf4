"""The built-in personas, workflows, templates and checklists, as a folder that the reader reads."""

from pathlib import Path

FOLDER = Path(__file__).parent
