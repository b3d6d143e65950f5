"""Preprocessing fitted on the training films: vocabulary, rules and columns, by which every other film is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from mmfusion.config.fields import Section, Text, checked
from mmfusion.errors import UserError
from mmfusion.files import is_text

# As in Python and TensorFlow alike, and so that its square is one too.
NUMBER = r"[+-]?([0-9]{1,18}\.?[0-9]{0,30}|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})?"
_GREATEST = 1e120
MOST_DEVIATIONS = 5.0  # a number further from the mean counts as so far: budgets lie thousands apart

_Value = Annotated[str, Field(min_length=1, max_length=10_000), checked(is_text, "a text")]


class Column(Section):
    """A column of a table: numbers, or a category's values."""

    name: Text
    # Of a category, the most frequent first; none of numbers.
    values: Annotated[tuple[_Value, ...], Field(strict=False, min_length=1, max_length=10_000)] | None = None
    mean: Annotated[float, Field(ge=-_GREATEST, le=_GREATEST)] = 0.0  # of numbers
    deviation: Annotated[float, Field(ge=1 / _GREATEST, le=_GREATEST)] = 1.0  # their standard deviation


class TextRules(Section):
    """Rules by which overviews become words; see `data.scripts`."""

    split: Literal["words", "characters"] = "words"  # at white space; also around the characters of some scripts
    fold: Literal["on", "off"] = "off"  # case, accents and width by Unicode's rules; else the case of ASCII alone


USUAL_RULES = TextRules()  # of texts in Latin script, and of a run that names none


@dataclass(frozen=True)
class Preprocessing:
    """Vocabulary, the rules that made it, and columns, fitted on the training films."""

    vocabulary: Sequence[str]  # of overviews: "", "[UNK]", then words
    columns: tuple[Column, ...] = ()  # of tables
    rules: TextRules = USUAL_RULES  # of overviews


_COLUMNS = TypeAdapter(Annotated[tuple[Column, ...], Field(max_length=1000)])


def columns_to_list(columns: Sequence[Column]) -> list[dict]:
    """Gives columns as JSON can hold them."""
    numbers, category = {"name", "mean", "deviation"}, {"name", "values"}
    return [one.model_dump(mode="json", include=numbers if one.values is None else category) for one in columns]


def columns_of_list(values, where: str) -> tuple[Column, ...]:
    """Gives columns from what `columns_to_list` gave.

    Raises:
        UserError: they are not such columns; `where` names their origin.
    """
    try:
        columns = _COLUMNS.validate_python(tuple(values) if isinstance(values, list) else values)
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        raise UserError(f"{where}: {'.'.join(map(str, found['loc']))}: {found['msg']}") from error
    if len({column.name for column in columns}) < len(columns):
        raise UserError(f"{where} names a column twice")
    if any(column.values is not None and len(set(column.values)) < len(column.values) for column in columns):
        raise UserError(f"{where}: a column's values must be different")
    return columns
