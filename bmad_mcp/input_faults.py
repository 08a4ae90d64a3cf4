"""What is wrong with a value, in words that a person or a model can act on; pydantic's own speak of Python."""

import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails


def _choices(expected: str) -> str:
    # The members of an enum stand there as `<TaskStatus.PENDING: 'pending'>`.
    return "must be " + re.sub(r"<[^<>]*: ('[^']*')>", r"\1", expected)


def _least(count: int, what: str) -> str:
    return "must not be empty" if count == 1 else f"must have at least {count:,} {what}"


_A_LIST, _AN_OBJECT = 'must be a list, as in ["a", "b"]', 'must be an object, as in {"name": "value"}'
_OF_OBJECTS = 'must be a list of objects, as in [{"name": "value"}]'
_A_NUMBER, _WHOLE, _YES_NO = "must be a number", "must be a whole number", "must be true or false"
_NAME = "[key]"
# Errors of which fields there are, and not of their values.
ABOUT_FIELDS = ("missing", "extra_forbidden")
# By the type of pydantic's error: the words, or what makes them of its context.
_WORDS: Mapping[str, str | Callable[[Any], str]] = {
    "missing": "is missing",
    "extra_forbidden": "is not known",
    "string_type": "must be a text",
    "bool_type": _YES_NO,
    "bool_parsing": _YES_NO,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _A_NUMBER,
    "float_parsing": _A_NUMBER,
    "finite_number": _A_NUMBER,
    "list_type": _A_LIST,
    "tuple_type": _A_LIST,
    "dict_type": _AN_OBJECT,
    "model_type": _AN_OBJECT,
    "model_attributes_type": _AN_OBJECT,
    "literal_error": lambda context: _choices(context["expected"]),
    "enum": lambda context: _choices(context["expected"]),
    "value_error": lambda context: str(context["error"]),
    "greater_than_equal": lambda context: f"must be at least {context['ge']:,}",
    "greater_than": lambda context: f"must be more than {context['gt']:,}",
    "less_than_equal": lambda context: f"must be at most {context['le']:,}",
    "less_than": lambda context: f"must be less than {context['lt']:,}",
    "string_too_short": lambda context: _least(context["min_length"], "characters"),
    "string_too_long": lambda context: f"must have at most {context['max_length']:,} characters",
    "too_short": lambda context: _least(context["min_length"], "items"),
    "too_long": lambda context: f"must have at most {context['max_length']:,} items",
}


def place_of(fault: ErrorDetails) -> str:
    """The field as callers write it; pydantic also tells that the name of an entry is wrong, and not its value."""
    return ".".join(str(part) for part in fault["loc"] if part != _NAME)


def in_words(fault: ErrorDetails, model: type[BaseModel]) -> str:
    """What follows the name of the field: `must be a whole number`."""
    words = _WORDS.get(fault["type"])
    if words is _A_LIST and fields_at(model, fault["loc"]) != fields_at(model, fault["loc"][:-1]):
        return _OF_OBJECTS
    if fault["loc"][-1:] == (_NAME,):
        return f"is no such name: it {in_words({**fault, 'loc': fault['loc'][:-1]}, model)}"
    if words is None:
        return f"{fault['msg'][0].lower()}{fault['msg'][1:]}"
    return words if isinstance(words, str) else words(fault["ctx"])


def fields_at(model: type[BaseModel], place: tuple[int | str, ...]) -> str:
    """The fields of what stands at a place of the input, those that may be left out with a question mark."""
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return ", ".join(name if field.is_required() else f"{name}?" for name, field in model.model_fields.items())


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation such as `tuple[Issue, ...] | None` holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
