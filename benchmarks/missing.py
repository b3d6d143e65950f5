"""Asks a finished network for its test films without one of their modalities, and keeps `missing.npz`.

A network answers film by film. So two answers, besides that to the film as it is, are enough for any share of
films that miss something: of each share some films have the one answer and the others the other.

Which films go first does not depend on model or seed: a film's place in the order is a hash of its id. A film
that misses its poster in a tenth of the films misses it in any larger share as well.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmfusion.errors import UserError
from mmfusion.files import read_regular
from mmfusion.runs import Run
from mmfusion.runs.arrays import parse_arrays, write_arrays

SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # of the films that miss one modality
_LIMIT = 2**32  # bytes; for 100,000 films with 25 genres it has 0.02 GB


def is_missing(ids: Sequence[str], share: float) -> np.ndarray:
    """Tells which films miss something where a share of all films does: bool (N,)."""
    return np.array([_place(film) < share for film in ids], bool)


def _place(film: str) -> float:
    """Places a film in the order of going missing, from 0 to below 1."""
    return int.from_bytes(hashlib.sha256(film.encode()).digest()[:6], "big") / 2**48


def is_asked(run: Run) -> bool:
    """Tells if its model was asked already."""
    return _file(run).is_file()


def read(run: Run) -> dict[str, np.ndarray] | None:
    """Reads what the network of a finished run said of its test films without one modality.

    Returns:
        By the modality that is missing, of those that the network reads, probabilities (N, G) in the order of the
        run's predictions; None if it was not asked.

    Raises:
        UserError: the file is damaged.
    """
    if not is_asked(run):
        return None
    answers = parse_arrays(read_regular(_file(run), _LIMIT), _file(run))
    shape = (run.facts["films"].get("test"), len(run.genres))
    for modality in {*run.facts["reads"], *answers}:
        found = answers.get(modality)
        if modality not in run.facts["reads"] or found is None:
            raise UserError(f"{_file(run)} must hold answers without {' and '.join(run.facts['reads'])}")
        good = found.shape == shape and found.dtype.kind == "f"
        if not (good and ((found >= 0) & (found <= 1)).all()):  # false for NaN
            raise UserError(f"{_file(run)} cannot be read: {modality} must hold {shape} probabilities")
    return answers


def scores(answers: dict[str, np.ndarray] | None) -> dict[str, float]:
    """Gives none: its answers have tables of their own."""
    return {}


def ask(run: Run, cache: Path) -> None:
    """Asks the network of a finished run, and writes its answers into the run folder.

    Args:
        run: finished.
        cache: where prepared films are kept.
    """
    from keras.ops import sigmoid

    from mmfusion import inference
    from mmfusion.training import fitting, preparation

    config = run.config
    prepared = preparation.prepare_again(run, cache)
    test = prepared.rows["test"]
    inputs, model = prepared.inputs(config), inference.load_model(run)
    preparation.check_presets(run, inputs)
    answers = {}
    for modality in run.facts["reads"]:
        source = inputs.without(modality, test).source(prepared.films.labels[test], config.data.batch_size)
        logits = fitting.logits_of(model, source, np.arange(len(test)))
        answers[modality] = np.asarray(sigmoid(logits))  # as predictions.npz has it, to the last bit
    write_arrays(_file(run), answers)


def _file(run: Run) -> Path:
    return run.folder / "missing.npz"
