"""What a check of `doctor` found."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `mend` says what to do when it is not ok."""

    level: Level
    name: str
    text: str
    mend: str = ""
