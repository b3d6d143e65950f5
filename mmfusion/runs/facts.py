"""Facts of a run that `config.json` has beside its configuration, and their form."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from mmfusion.config.fields import Count, Section, Size, Text, checked
from mmfusion.config.messages import first_problem
from mmfusion.data.preprocessing import USUAL_RULES, TextRules
from mmfusion.errors import UserError
from mmfusion.schema import MODALITIES

_Modality = Annotated[str, checked(lambda v: v in MODALITIES, f"one of {', '.join(MODALITIES)}")]
_Modalities = Annotated[
    list[str],
    checked(
        lambda v: len(v) <= len(MODALITIES) and set(v) <= set(MODALITIES),
        f"a list of {', '.join(MODALITIES)}, or of some of them",
    ),
]
_Processors = Annotated[int, Field(ge=0, le=1_000_000)]
_Contents = Annotated[list[Annotated[int, Field(ge=1, lt=2**64)]], Field(max_length=1000)]
_Shape = Annotated[list[Size], Field(min_length=1, max_length=2)]


class Facts(Section):
    """Facts of every run, and with a default those of some."""

    fingerprint: Text  # of the source of the films
    split: Text  # its hash
    films: dict[str, Annotated[int, Field(ge=1, le=1_000_000_000)]]  # how many, by split
    genre_counts: dict[str, list[Count]]  # by split a count a genre
    parameters: Annotated[int, Field(ge=0, le=10**15)]
    versions: dict[Text, Text]  # of the libraries
    cores: _Processors
    threads: _Processors  # that one operation of TensorFlow may use: with the seed they decide every byte
    processor: Text
    started: Text  # a date
    source: Annotated[list[Text], Field(max_length=1000)] = []  # an account of the films, in lines
    reads: _Modalities = []
    placeholders: dict[_Modality, _Contents] = {}  # hashes of what counted as missing
    overview: TextRules = USUAL_RULES  # by which overviews became words
    table: Text = ""  # a hash of the file that was joined to the films
    features: dict[_Modality, _Shape] = {}  # of a film's features, by the modality that a frozen preset has read
    presets: dict[_Modality, Text] = {}  # the fingerprint of the preset that each needs
    train_seconds: float = 0.0  # of what has no history
    ms_per_film: float = 0.0


class _Kept(Section):
    facts: Facts


def checked_facts(facts: dict, genres: int, where: Path) -> dict:
    """Checks what a run folder says before anything is made of it.

    Args:
        facts: as in `config.json`.
        genres: G, how many genres the run has.
        where: the file, for messages.

    Returns:
        The same, of those facts that it has.

    Raises:
        UserError: a fact is unknown, missing, of the wrong type, or disagrees with the genres.
    """
    try:
        found = _Kept.model_validate({"facts": facts}).facts
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error, _Kept)}") from error
    if "train" not in found.films:
        raise UserError(f"{where}: facts.films does not count the training films")
    for split, films in found.films.items():
        counts = found.genre_counts.get(split, [])
        if len(counts) != genres:
            raise UserError(f"{where}: facts.genre_counts has {len(counts)} counts, genres.json {genres} genres")
        if max(counts) > films:
            raise UserError(f"{where}: facts.genre_counts has a count that is not one of {films} films")
    return found.model_dump(exclude_unset=True)
