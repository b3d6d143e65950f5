"""Asks a finished model about permuted test films, and for its speed; kept in its run folder as `probe.npz`.

- How long it takes for a film.
- If it reads several modalities, what it says of test films of which some were exchanged among them: for the
  perceptual score (Gat et al. 2021) and the modalities' Shapley values.
- And what it says of each modality of some films beside the others of these films: for EMAP (Hessel and
  Lee 2020), the best approximation of a model by a sum of functions of one modality each.

`mmfusion.evaluation.contributions` makes scores of these.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmfusion.config import AVERAGES
from mmfusion.errors import UserError
from mmfusion.files import read_regular
from mmfusion.runs import Run
from mmfusion.runs.arrays import parse_arrays, write_arrays

EXCHANGES = 5  # permutations of the films
PAIRED = 128  # films for EMAP: its cost grows with their square
_LIMIT = 2**32  # bytes; for 100,000 films with 25 genres it has 0.2 GB


def is_asked(run: Run) -> bool:
    """Tells if its model was asked already."""
    return _file(run).is_file()


def read(run: Run):
    """Reads what the model of a finished run answered.

    Returns:
        Milliseconds a film, and what it said of exchanged modalities as `contributions.PermutedPredictions`, None
        for a model of one modality.

    Raises:
        UserError: it was not asked, or the file is damaged.
    """
    from mmfusion.evaluation.contributions import PermutedPredictions, coalitions

    if not is_asked(run):
        raise UserError(f"{run.folder} is not finished: it has no probe.npz")
    answers = parse_arrays(read_regular(_file(run), _LIMIT), _file(run))
    try:
        milliseconds = float(answers.pop("ms_per_film"))
        permuted = {}
        for names in coalitions(run.facts["reads"]) if answers else ():
            permuted[names] = answers.pop(_key(names))
        found = PermutedPredictions(permuted, **answers) if answers else None
        _check_form(milliseconds, found, run.facts["films"].get("test"), len(run.genres))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{_file(run)} cannot be read: {error}") from error
    return milliseconds, found


def scores(answers: tuple) -> dict[str, float]:
    """Gives how long a film takes."""
    return {"ms_per_film": answers[0]}


def _key(names: Sequence[str]) -> str:
    """The name in `probe.npz` of what was said with these modalities exchanged."""
    return f"permuted_{'+'.join(names)}"


def _check_form(milliseconds: float, found, films: int | None, genres: int) -> None:
    if not 0 <= milliseconds < np.inf:
        raise ValueError(f"a film took {milliseconds} ms")
    if found is None:
        return
    paired = found.paired
    if paired.ndim != 1 or paired.dtype.kind not in "iu" or not ((paired >= 0) & (paired < films)).all():
        raise ValueError("it pairs films that the run does not have")
    orders = (len(next(iter(found.permuted.values()))), films, genres)
    arrays = {_key(names): (values, orders) for names, values in found.permuted.items()}
    pairs = (len(paired), genres)
    arrays |= {"whole": (found.whole, pairs), "additive": (found.additive, pairs)}
    for name, (values, shape) in arrays.items():
        if not (values.shape == shape and values.dtype.kind == "f" and np.isfinite(values).all()):
            raise ValueError(f"{name} must hold {shape} finite numbers")


def ask(run: Run, cache: Path) -> None:
    """Asks the model of a finished run, and writes its answers into the run folder.

    Args:
        run: finished.
        cache: where prepared films are kept.
    """
    from mmfusion import inference
    from mmfusion.evaluation.contributions import additive_approximation, coalitions
    from mmfusion.training import fitting, preparation

    config, reads = run.config, run.facts["reads"]
    prepared = preparation.prepare_again(run, cache)
    test = prepared.rows["test"]
    inputs, same = prepared.inputs(config), np.arange(len(test))
    preparation.check_presets(run, inputs)
    model = inference.load_model(run)

    def logits(rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of films put together of others' modalities, by the place of each among the test films."""
        count = len(next(iter(rows.values())))
        beside = dict.fromkeys(inputs.films, np.zeros(count, int))  # what the model does not read
        exchanged = inputs.exchanged({name: test[places] for name, places in {**beside, **rows}.items()})
        source = exchanged.source(np.zeros((count, len(run.genres)), np.float32), config.data.batch_size)
        return fitting.logits_of(model, source, np.arange(count))

    own = dict.fromkeys(inputs.films, same)
    logits(own)  # traces the model for every length of overview
    start = time.perf_counter()
    logits(own)
    answers = {"ms_per_film": np.array((time.perf_counter() - start) / len(test) * 1000)}
    if len(reads) > 1:
        rng = np.random.default_rng(config.seed)
        orders = [{name: rng.permutation(same) for name in reads} for _ in range(EXCHANGES)]
        for names in coalitions(reads):
            said = [logits({**own, **{name: order[name] for name in names}}) for order in orders]
            answers[_key(names)] = np.stack([_sigmoid(one) for one in said])
        paired = np.sort(rng.permutation(same)[:PAIRED])
        whole, additive = additive_approximation(
            _main_effects(logits, reads, paired, rng),
            logits({**own, **dict.fromkeys(reads, paired)}),
            of_probabilities=_adds_probabilities(config),
        )
        answers |= {"paired": paired, "whole": whole, "additive": additive}
    write_arrays(_file(run), answers)


def _main_effects(logits, reads: Sequence[str], paired: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """For each modality logits (F, J, G) of F films' own beside the others of as many films.

    Of two modalities these are all pairs, asked once. Of more, the others are drawn from the films independently.
    """
    first, *rest = reads
    if len(reads) == 2:
        square = _square(logits, first, {rest[0]: paired}, paired)  # (F, J, G)
        return [square, square.swapaxes(0, 1)]
    effects = []
    for name in reads:
        others = {other: rng.permutation(paired) for other in reads if other != name}
        effects.append(_square(logits, name, others, paired))
    return effects


def _square(logits, name: str, others: Mapping[str, np.ndarray], paired: np.ndarray) -> np.ndarray:
    # Some films at a time: all pairs would be gigabytes of posters at a larger size.
    rows = []
    for some in np.array_split(np.arange(len(paired)), -(-len(paired) // 8)):
        beside = {other: np.repeat(of[some], len(paired)) for other, of in others.items()}
        said = logits({name: np.tile(paired, len(some)), **beside})
        rows.append(said.reshape(len(some), len(paired), -1))
    return np.concatenate(rows).swapaxes(0, 1)  # (F, J, G)


def _file(run: Run) -> Path:
    return run.folder / "probe.npz"


def _adds_probabilities(config) -> bool:
    """Tells if the sum is one of probabilities, as late fusion's averages are; elsewhere it is one of logits."""
    return bool(config.parts) and config.late.combiner in AVERAGES


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-np.asarray(logits, np.float64)))).astype(np.float32)
