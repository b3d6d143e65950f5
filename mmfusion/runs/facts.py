"""Facts of a run that `config.json` has beside its configuration, and their form."""

import math
from pathlib import Path

from mmfusion.errors import UserError
from mmfusion.schema import MODALITIES

# Of every run, and of some.
_FACTS = {
    "fingerprint": str,  # of the source of the films
    "split": str,  # its hash
    "films": dict,  # how many, by split
    "genre_counts": dict,  # by split a count a genre
    "parameters": int,
    "versions": dict,  # of the libraries
    "cores": int,
    "threads": int,  # that one operation of TensorFlow may use: with the seed they decide every byte
    "processor": str,
    "started": str,  # a date
}
_MORE_FACTS = {
    "reads": list,  # modalities
    "table": str,  # a hash of the file that was joined to the films
    "features": dict,  # by the modality that a frozen preset has read, the shape of a film's features
    "presets": dict,  # by modality, the fingerprint of the preset that it needs
    "train_seconds": float,  # of what has no history
    "ms_per_film": float,
}
_MOST_FILMS = 1_000_000_000
_WIDEST = 1_000_000  # of features
_KINDS = {str: "a string", int: "a whole number", float: "a number", dict: "a table", list: "a list"}


def check_facts(facts: dict, genres: int, where: Path) -> None:
    """Checks what a run folder says before anything is made of it.

    Args:
        facts: as in `config.json`.
        genres: G, how many genres the run has.
        where: the file, for messages.

    Raises:
        UserError: a fact is unknown, missing, of the wrong type, or disagrees with the genres.
    """
    for key in facts.keys() - _FACTS.keys() - _MORE_FACTS.keys():
        raise UserError(f"{where}: unknown key facts.{key}")
    for key, kind in {**_FACTS, **_MORE_FACTS}.items():
        if key not in facts:
            if key in _FACTS:
                raise UserError(f"{where}: the key facts.{key} is missing")
            continue
        value = facts[key]
        number = type(value) in (int, float) and math.isfinite(value) if kind is float else type(value) is kind
        if not number:
            raise UserError(f"{where}: facts.{key} must be {_KINDS[kind]}, not {value!r}")
    for split, films in facts["films"].items():
        counts = facts["genre_counts"].get(split)
        if type(films) is not int or not 1 <= films <= _MOST_FILMS or not isinstance(counts, list):
            raise UserError(f"{where}: facts.films and facts.genre_counts must count the films of {split!r}")
        if len(counts) != genres:
            raise UserError(f"{where}: facts.genre_counts has {len(counts)} counts, genres.json {genres} genres")
        if not all(type(count) is int and 0 <= count <= films for count in counts):
            raise UserError(f"{where}: facts.genre_counts has a count that is not one of {films} films")
    if "train" not in facts["films"]:
        raise UserError(f"{where}: facts.films does not count the training films")
    for key, text in {**facts["versions"], **{key: facts[key] for key in ("processor", "started")}}.items():
        if not isinstance(text, str) or not text.isprintable():
            raise UserError(f"{where}: facts: {key!r} must be a text that can be printed, not {text!r}")
    for modality, shape in facts.get("features", {}).items():
        sizes = isinstance(shape, list) and len(shape) in (1, 2) and all(type(n) is int for n in shape)
        if modality not in MODALITIES or not sizes or not all(1 <= n <= _WIDEST for n in shape):
            raise UserError(
                f"{where}: facts.features must hold the shape of each modality's features, not {shape!r}"
            )
    presets, reads = facts.get("presets", {}), facts.get("reads", [])
    if not all(isinstance(said, str) for said in presets.values()) or not set(presets) <= set(MODALITIES):
        raise UserError(f"{where}: facts.presets must hold a text for each modality")
    if not all(modality in MODALITIES for modality in reads) or len(reads) > len(MODALITIES):
        raise UserError(f"{where}: facts.reads must be a list of {', '.join(MODALITIES)}, or of some of them")
