"""Types of a configuration's values, with their bounds."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from mmfusion.schema import MODALITIES


class Section(BaseModel):
    """A part of a configuration: frozen, of just these keys, with no value turned into another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def checked(check, meaning: str) -> AfterValidator:
    """Makes a validator of what a bound cannot say; `meaning` follows "must be"."""

    def validate(value):
        if not check(value):
            raise PydanticCustomError("meaning", "{meaning}", {"meaning": meaning})
        return value

    return AfterValidator(validate)


# A list in TOML and JSON.
_LIST = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
# It comes to be printed, and a terminal obeys some of the rest.
Text = Annotated[str, checked(str.isprintable, "a text that can be printed")]
Separator = Annotated[str, checked(lambda v: len(v) < 2 and (v == "\t" or v.isprintable()), "one character")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(ge=0, lt=1)]  # of what is dropped, or smoothed
Positive = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
# More is a slip, or somebody's run folder that asks for all memory.
Size = Annotated[int, Field(ge=1, le=1_000_000)]
Depth = Annotated[int, Field(ge=1, le=100)]  # layers of one kind
Sizes = Annotated[tuple[Size, ...], _LIST, Field(max_length=100)]
Layers = Annotated[tuple[Size, ...], _LIST, Field(min_length=1, max_length=100)]
Pixels = Annotated[int, Field(ge=16, le=1024)]
Entries = Annotated[int, Field(ge=3, le=10_000_000)]
Hashes = Annotated[int, Field(ge=0, le=10_000_000)]
# Of a fusion, in the order of the batch.
Modalities = Annotated[
    tuple[str, ...],
    _LIST,
    checked(
        lambda v: len(v) > 1 and len(set(v)) == len(v) and set(v) <= set(MODALITIES),
        f"two or more of {', '.join(MODALITIES)}",
    ),
    AfterValidator(lambda v: tuple(modality for modality in MODALITIES if modality in v)),
]
Columns = Annotated[
    tuple[Text, ...],
    _LIST,
    Field(max_length=1000),
    checked(lambda v: len(set(v)) == len(v) and all(v), "a list of different columns' names"),
]
PictureSize = Annotated[tuple[Pixels, Pixels], _LIST]
Split = Annotated[
    tuple[float, ...],
    _LIST,
    checked(
        lambda v: len(v) == 3 and min(v) > 0 and abs(sum(v) - 1) < 1e-6, "three positive shares that add up to 1"
    ),
]
