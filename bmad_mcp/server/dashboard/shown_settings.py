"""The settings of this server as the dashboard shows them: no secret, and no password inside an address."""

import re
from collections.abc import Iterator

from pydantic import SecretStr

from bmad_mcp.server.dashboard.routes import ShownSetting
from bmad_mcp.settings import Settings

_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")


def shown_settings(settings: Settings) -> Iterator[ShownSetting]:
    """Every setting with its variable, its value and what it means."""
    for name, field in Settings.model_fields.items():
        yield ShownSetting(f"BMAD_{name.upper()}", _told(getattr(settings, name)), field.description or "")


def _told(value: object) -> str:
    if value is None or value in ("", ()):
        return "unset"
    if isinstance(value, SecretStr):
        return "set (not shown)"
    if isinstance(value, tuple):
        return ", ".join(str(one) for one in value)
    if isinstance(value, bool):
        return str(value).lower()
    return _USER_INFO.sub("…@", str(value))
