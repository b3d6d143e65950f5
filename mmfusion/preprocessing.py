"""What the training films settle of how texts and columns become numbers; every other film is read by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from mmfusion.config.fields import Positive, Section, Text
from mmfusion.errors import UserError

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?"  # as in Python and TensorFlow alike
MOST_DEVIATIONS = 5.0  # a number further from the mean counts as so far: budgets lie thousands apart


class Column(Section):
    """A column of a table: numbers, or a category's values."""

    name: Text
    # Of a category, the most frequent first; none of numbers.
    values: Annotated[tuple[str, ...], Field(strict=False, min_length=1, max_length=10_000)] | None = None
    mean: float = 0.0  # of numbers
    deviation: Positive = 1.0  # their standard deviation


@dataclass(frozen=True)
class Preprocessing:
    """Vocabulary and columns, fitted on the training films."""

    vocabulary: Sequence[str]  # of overviews: "", "[UNK]", then words
    columns: tuple[Column, ...] = ()  # of tables


_COLUMNS = TypeAdapter(tuple[Column, ...])


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
