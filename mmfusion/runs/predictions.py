"""Predictions of a run as arrays by name, checked before anything is made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmfusion.errors import UserError

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Predictions:
    """Predictions for the films of one split."""

    ids: tuple[str, ...]  # N
    y_true: np.ndarray  # uint8 (N, G)
    y_prob: np.ndarray  # float32 (N, G), in [0, 1]


def arrays_of(
    predictions: Mapping[str, Predictions], temperature: float | None, gates: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Names `ids_SPLIT`, `y_true_SPLIT`, `y_prob_SPLIT`; where there are any, `temperature`, `gates_SPLIT`."""
    arrays: dict[str, np.ndarray] = {}
    if temperature is not None:
        arrays["temperature"] = np.array(temperature, np.float64)
    arrays |= {f"gates_{split}": np.asarray(of, np.float32) for split, of in gates.items()}
    for split, found in predictions.items():
        arrays[f"ids_{split}"] = np.array(found.ids)
        arrays[f"y_true_{split}"] = np.asarray(found.y_true, np.uint8)
        arrays[f"y_prob_{split}"] = np.asarray(found.y_prob, np.float32)
    return arrays


def predictions_of(
    arrays: Arrays, split: str, genres: int, films: Sequence[str] | None, where: Path
) -> Predictions:
    """Gives the predictions of a split.

    Args:
        arrays: as `arrays_of` names them.
        split: "validation" or "test".
        genres: G, of the run.
        films: ids, as its split has them.
        where: the file, for messages.

    Raises:
        UserError: they are of other films or genres than the run, or no predictions.
    """
    try:
        ids, y_true, y_prob = (arrays[f"{name}_{split}"] for name in ("ids", "y_true", "y_prob"))
    except KeyError as error:
        raise UserError(f"{where} cannot be read: it has no {error.args[0]}") from error
    if ids.ndim != 1:
        raise UserError(f"{where} does not hold a list of ids")
    shape = (len(ids), genres)
    if y_true.shape != shape or y_prob.shape != shape:
        raise UserError(f"{where} does not fit genres.json: {y_prob.shape}, {shape}")
    if y_true.dtype != np.uint8 or y_prob.dtype != np.float32 or ids.dtype.kind != "U":
        raise UserError(f"{where} holds {y_true.dtype}, {y_prob.dtype} and {ids.dtype}")
    if (y_true > 1).any() or not ((y_prob >= 0) & (y_prob <= 1)).all():
        raise UserError(f"{where} holds values that are no labels or no probabilities")
    if ids.tolist() != films:
        raise UserError(f"{where} holds other {split} films than split.json")
    return Predictions(tuple(ids.tolist()), y_true, y_prob)


def temperature_of(arrays: Arrays, where: Path) -> float | None:
    """Gives the temperature that logits were divided by; None: not fitted.

    Raises:
        UserError: it is none.
    """
    found = arrays.get("temperature")
    if found is None:
        return None
    if found.shape or found.dtype != np.float64 or not 0 < found < np.inf:
        raise UserError(f"{where}: the temperature must be a number greater than 0, and finite")
    return float(found)


def gates_of(arrays: Arrays, split: str, shape: tuple[int, int], where: Path) -> np.ndarray | None:
    """Gives how much each modality of each film is trusted, (N, M) from 0 to 1; None without gates.

    Raises:
        UserError: they have another form.
    """
    found = arrays.get(f"gates_{split}")
    if found is None:
        return None
    if found.dtype != np.float32 or found.shape != shape or not ((found >= 0) & (found <= 1)).all():
        raise UserError(f"{where}: gates_{split} must hold numbers from 0 to 1, for each film and modality")
    return found
