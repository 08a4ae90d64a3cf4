"""YAML and TOML from strangers: no aliases, no objects, capped depth and size; every fault becomes a deviation."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from bmad_mcp.bmad_files.deviations import Deviations, shown
from bmad_mcp.bmad_files.values import SourceFile

SIZE_CAP = 1024 * 1024
DEPTH_CAP = 50
# tomllib takes the square of the parts of a dotted key.
DOTS_CAP = 500
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_WORDS: dict[str, bool | None] = dict.fromkeys(("", "~", "null", "Null", "NULL")) | {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
# `!!timestamp`, `!!set` and the like would need objects; `!` alone marks a text.
_TAGS = frozenset(
    {None, "!"} | {f"tag:yaml.org,2002:{word}" for word in ("str", "int", "float", "bool", "null", "map", "seq")}
)
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class YamlRefused(Exception):
    """The text is not taken: `message` says why, `mend` what to do; `line` counts from 1."""

    def __init__(
        self, message: str, line: int | None = None, code: str = "yaml", mend: str = "Mend that place."
    ) -> None:
        super().__init__(message)
        self.message, self.line, self.code, self.mend = message, line, code, mend


@dataclass(slots=True)
class Loaded:
    """A parsed text. `places` tells of the keys of the first two levels: line, and line and column of the value's end.

    Lines count from 1, columns from 0. Where the value is a list or a mapping, the end is that of its key.
    """

    value: Any
    places: dict[tuple[str, ...], tuple[int, int, int]] = field(default_factory=dict)
    repeated: list[tuple[str, int]] = field(default_factory=list)


def load_yaml(text: str) -> Any:
    """The first document as dicts, lists, texts, whole numbers, booleans and None; raises YamlRefused.

    Numbers with a point, dates and `yes` stay the words they are, so that story `1.10` is not `1.1`.
    """
    return parse_yaml(text).value


def parse_yaml(text: str, *, keep_repeated: bool = False) -> Loaded:
    """The same with the places of its keys. A repeated key is refused, unless `keep_repeated`: then the last counts."""
    loaded = _Builder(text).load()
    if loaded.repeated and not keep_repeated:
        key, line = loaded.repeated[0]
        raise YamlRefused(f"the key {shown(key)} is there twice", line, "yaml-repeated", "Remove one of the two.")
    return loaded


def read_yaml(source: SourceFile, deviations: Deviations, *, keep_repeated: bool = False) -> Loaded | None:
    """A whole file; None, with a deviation, when it is refused or no text."""
    if source.text is None:
        return None
    loaded = _told(source.text, source.path, 1, deviations, keep_repeated)
    if loaded is not None:
        for key, line in loaded.repeated:
            message = f"The key {shown(key)} is there twice; the last one counts."
            deviations.add(source.path, line, "yaml-repeated", message, "Remove one of the two.")
    return loaded


def read_mapping(text: str | None, path: str, deviations: Deviations, first_line: int = 1) -> dict[str, Any]:
    """A text that should be keys and values; empty, with a deviation, when it is refused or something else."""
    loaded = None if text is None else _told(text, path, first_line, deviations, False)
    if loaded is None or loaded.value is None:
        return {}
    if not isinstance(loaded.value, dict):
        message = "The YAML should be `key: value` lines and is something else."
        deviations.add(path, first_line, "yaml-shape", message, "Write it as keys and values.")
        return {}
    return loaded.value


def _told(text: str, path: str, first_line: int, deviations: Deviations, keep_repeated: bool) -> Loaded | None:
    try:
        loaded = parse_yaml(text, keep_repeated=keep_repeated)
    except YamlRefused as refused:
        line = None if refused.line is None else refused.line + first_line - 1
        message = f"The YAML cannot be read: {refused.message}. The file is kept as it is."
        deviations.add(path, line, refused.code, message, refused.mend)
        return None
    loaded.value = storable(loaded.value, path, deviations)
    return loaded


def read_toml(source: SourceFile | None, deviations: Deviations) -> dict[str, Any]:
    """A TOML file; dates and numbers with a point become words. Empty, with a deviation, when it is refused."""
    if source is None or source.text is None:
        return {}
    line: int | None = None
    try:
        if len(source.raw) > SIZE_CAP or any(row.count(".") > DOTS_CAP for row in source.text.split("\n")):
            raise ValueError("it is too large")
        value = tomllib.loads(source.text.removeprefix("\ufeff"))
        if _depth(value) > DEPTH_CAP:
            raise ValueError(f"it is nested more than {DEPTH_CAP} deep")
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        if found := re.search(r"\(at line (\d{1,7}),", reason):
            line = int(found[1])
        message = f"The TOML cannot be read: {shown(reason)}. The file is kept as it is and does not count."
        deviations.add(source.path, line, "toml", message, "Mend that place.")
        return {}
    cleaned: dict[str, Any] = storable(value, source.path, deviations)
    return cleaned


def _depth(value: Any) -> int:
    level, below = 0, [value]
    while below and level <= DEPTH_CAP:
        level += 1
        below = [
            one
            for outer in below
            for one in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
        ]
    return level


def storable(value: Any, path: str, deviations: Deviations) -> Any:
    """The value with what neither JSON nor PostgreSQL holds replaced: NUL, lone surrogates, dates, fractions."""
    if isinstance(value, str):
        return _storable_text(value, path, deviations)
    if isinstance(value, dict):
        return {_storable_text(key, path, deviations): storable(one, path, deviations) for key, one in value.items()}
    if isinstance(value, list):
        return [storable(one, path, deviations) for one in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    return str(value) if not isinstance(value, int) else hex(value)


def _storable_text(text: str, path: str, deviations: Deviations) -> str:
    if not _UNSTORABLE.search(text):
        return text
    message = "An escape stands for NUL or half a surrogate pair, which cannot be stored; it became \ufffd."
    deviations.add(path, None, "not-storable", message, "Remove the escape.")
    return _UNSTORABLE.sub("\ufffd", text)


class _Builder:
    """Builds the value from the parser's events, so that nothing is constructed before it is checked."""

    def __init__(self, text: str) -> None:
        if len(text.encode("utf-8", "replace")) > SIZE_CAP:
            raise YamlRefused(f"it is over {SIZE_CAP // 1024} KiB", None, "yaml-large", "Split it into smaller files.")
        self._events = self._parsed(text.removeprefix("\ufeff"))
        self._keys: list[str] = []
        self._loaded = Loaded(None)

    def load(self) -> Loaded:
        seen = False
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if seen:
                    # A second document is left in the raw file.
                    break
                seen = True
                self._loaded.value = self._value(next(self._events), 0)
        return self._loaded

    def _parsed(self, text: str) -> Iterator[Any]:
        try:
            yield from yaml.parse(text, Loader=_LOADER)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "a character is not allowed"
            raise YamlRefused(str(problem), mark.line + 1 if mark else None) from error

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            mend = "Write the value out where the alias stands."
            raise YamlRefused("it uses aliases, which could unfold without end", _line(event), "yaml-alias", mend)
        if event.tag not in _TAGS:
            raise YamlRefused(f"the tag {shown(event.tag)} is not taken", _line(event), "yaml-tag", "Remove the tag.")
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        if depth >= DEPTH_CAP:
            message = f"it is nested more than {DEPTH_CAP} deep"
            raise YamlRefused(message, _line(event), "yaml-deep", "Nest it less deeply.")
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(depth)
        return self._mapping(depth)

    def _sequence(self, depth: int) -> list[Any]:
        items = []
        # Keys inside a list have no place of their own.
        self._keys.append("")
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        self._keys.pop()
        return items

    def _mapping(self, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._refuse_key(event)
            key = str(event.value)
            self._keys.append(key)
            if key in mapping:
                self._loaded.repeated.append((key, _line(event)))
                self._forget_places()
            value: Any = next(self._events)
            mapping[key] = self._value(value, depth + 1)
            if len(self._keys) <= 2 and "" not in self._keys:
                at = value if isinstance(value, yaml.ScalarEvent) else event
                end: Any = at.end_mark
                self._loaded.places[tuple(self._keys)] = (_line(event), end.line + 1, end.column)
            self._keys.pop()
        return mapping

    def _forget_places(self) -> None:
        # What stood below the key's earlier value is nowhere in the value that counts.
        if (key := tuple(self._keys)) in self._loaded.places:
            for path in [path for path in self._loaded.places if path[: len(key)] == key]:
                del self._loaded.places[path]

    def _refuse_key(self, event: Any) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._value(event, 0)
        raise YamlRefused("a key is not a plain word", _line(event), mend="Use a plain word as the key.")

    def _scalar(self, event: Any) -> Any:
        text = str(event.value)
        # A quoted or tagged scalar is a text.
        if not event.implicit[0]:
            return text
        if text in _WORDS:
            return _WORDS[text]
        return int(text) if _INTEGER.fullmatch(text) else text


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1
