"""TOML in layers: what the installer wrote, under what the team and the person put over it."""

from typing import Any

from bmad_mcp.bmad_files.collected import Collected
from bmad_mcp.bmad_files.values import Generation
from bmad_mcp.bmad_files.yaml_guard import read_toml


def merged(base: Any, over: Any) -> Any:
    """Scalars: the upper wins. Tables merge. Lists of tables replace by `code` or `id` and append. Others append."""
    if isinstance(base, dict) and isinstance(over, dict):
        return {**base, **{name: merged(base[name], one) if name in base else one for name, one in over.items()}}
    if isinstance(base, list) and isinstance(over, list):
        key = next((name for name in ("code", "id") if _is_keyed(base + over, name)), None)
        if key is None:
            return base + over
        replaced = {one[key]: one for one in over}
        kept = [replaced.pop(one[key], one) for one in base]
        return kept + list(replaced.values())
    return over


def _is_keyed(items: list[Any], name: str) -> bool:
    return bool(items) and all(isinstance(one, dict) and isinstance(one.get(name), str) for one in items)


def _layers(found: Collected, paths: tuple[str, ...], generation: Generation) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for path in paths:
        if real := found.folder.locate(path):
            result = merged(result, read_toml(found.folder.read(real, generation, "config"), found.deviations))
    return result


def layered_config(found: Collected, root: str, generation: Generation) -> dict[str, Any]:
    """`config.toml` under `config.user.toml` under the team's and the person's own."""
    names = ("config.toml", "config.user.toml", "custom/config.toml", "custom/config.user.toml")
    return _layers(found, tuple(f"{root}/{name}" for name in names), generation)


def layered_skill(found: Collected, root: str, folder: str, skill: str, generation: Generation) -> dict[str, Any]:
    """A skill's `customize.toml` under the team's and the person's own."""
    own = (f"{folder}/customize.toml", f"{root}/custom/{skill}.toml", f"{root}/custom/{skill}.user.toml")
    return _layers(found, own, generation)
