"""Validation errors in one line: the key, what its value must be, what it is."""

import difflib
import re
import typing

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError

_KINDS = {
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a table",
    "dict_type": "a table",
    "list_type": "a list",
}


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """Says what is wrong with the first value that a model refuses."""
    found: dict[str, typing.Any] = {**error.errors(include_url=False)[0]}
    names = [part for part in found["loc"] if isinstance(part, str) and part != "[key]"]
    key, kind, value = ".".join(names), found["type"], found["input"]
    if kind == "extra_forbidden":
        return f"unknown key {key}{_did_you_mean(names, model)}"
    if kind == "missing":
        return f"the key {key} is missing" if isinstance(found["loc"][-1], str) else f"{key} has too few entries"
    shown = list(value) if isinstance(value, tuple) else value
    if kind == "too_short":
        return f"{key} must not be empty" if not value else f"{key} has too few entries: {shown!r}"
    if kind == "too_long":
        return f"{key} must have at most {found['ctx']['max_length']} entries"
    if kind == "literal_error":
        names = re.findall(r"'([^']*)'", found["ctx"]["expected"])
        return f"{key} must be one of {', '.join(names)}, not {shown!r}"
    return f"{key} must be {_KINDS.get(kind) or _meaning(found, names, model)}, not {shown!r}"


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All settings of a model and of its parts, by dotted key."""
    keys = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += keys_of(inner, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _did_you_mean(names: list[str], model: type[BaseModel]) -> str:
    """A hint at the key that was meant: in the same table, or one of that name in any."""
    key, keys = ".".join(names), keys_of(model)
    table = "".join(f"{name}." for name in names[:-1])
    here = difflib.get_close_matches(key, [f"{table}{name}" for name in _fields(names, model)], n=1)
    elsewhere = [full for full in keys if full.rsplit(".", 1)[-1] == names[-1]]
    meant = elsewhere or here or difflib.get_close_matches(key, keys, n=1)
    return f"; did you mean {' or '.join(meant)}?" if meant else ""


def _fields(names: list[str], model: typing.Any) -> dict:
    """The fields of the table that a key is in."""
    for name in names[:-1]:
        model = model.model_fields[name].annotation
    return model.model_fields


def _field(names: list[str], model: type[BaseModel]):
    """The setting that a key names, or that has what it names inside."""
    field = model.model_fields[names[0]]
    inner = field.annotation
    return _field(names[1:], inner) if isinstance(inner, type) and issubclass(inner, BaseModel) else field


def _meaning(found: dict, names: list[str], model: type[BaseModel]) -> str:
    """Bounds of a value in words."""
    if found["type"] == "meaning":
        return found["ctx"]["meaning"]
    field = _field(names, model)
    bounds = {type(one): one for one in _bounds(field.annotation, field.metadata)}
    low, high = bounds.get(Ge) or bounds.get(Gt), bounds.get(Le) or bounds.get(Lt)
    if isinstance(low, Gt):
        return f"greater than {low.gt}, and finite"
    if high is None:
        return f"at least {low.ge}" if low else "finite"
    assert low is not None  # what has an upper bound has a lower one
    return f"from {low.ge:,} to {f'{high.le:,}' if isinstance(high, Le) else f'below {high.lt:,}'}"


def _bounds(annotation, metadata=()) -> list:
    """Bounds of a value, or of the entries of a list."""
    found = []
    for one in metadata:
        found += getattr(one, "metadata", None) or [one]
    for inner in typing.get_args(annotation):
        if typing.get_origin(inner) is typing.Annotated:
            found += _bounds(inner, inner.__metadata__)
        elif inner is not Ellipsis:
            found += _bounds(inner)
    return [one for one in found if isinstance(one, Ge | Gt | Le | Lt)]
