"""YAML from strangers: plain data only, no aliases, bounded in size and depth, no key twice."""

from typing import Any

import yaml

SIZE_CAP = 1024 * 1024
DEPTH_CAP = 50

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlRefused(Exception):
    """The text is not YAML that we take; `line` counts from 1."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


class _Loader(_Base):  # type: ignore[misc]
    pass


# 1.10 is the tenth story and not 1.1; a date stays as it was written.
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in pairs if not tag.endswith((":float", ":timestamp"))]
    for letter, pairs in _Base.yaml_implicit_resolvers.items()
}


def _mapping(loader: Any, node: Any, deep: bool = False) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str | int | bool | type(None)):
            raise YamlRefused("a key is not a plain word", key_node.start_mark.line + 1)
        if key in found:
            raise YamlRefused(f"the key {str(key)[:60]!r} is there twice", key_node.start_mark.line + 1)
        found[key] = loader.construct_object(value_node, deep=True)
    return found


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def load_yaml(text: str) -> Any:
    """The data of a YAML text; raises YamlRefused with a sentence and, where known, the line."""
    if len(text) > SIZE_CAP:
        raise YamlRefused(f"it is over {SIZE_CAP // 1024} KiB")
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_Base):
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise YamlRefused("it uses anchors or aliases, which can grow without bound", _line(event))
            if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                depth += 1
                if depth > DEPTH_CAP:
                    raise YamlRefused(f"it is nested more than {DEPTH_CAP} deep", _line(event))
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                depth -= 1
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a safe loader that refuses more
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlRefused(error.problem or "it cannot be parsed", mark.line + 1 if mark else None) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise YamlRefused(str(error).splitlines()[0] if str(error) else "it cannot be parsed") from None
