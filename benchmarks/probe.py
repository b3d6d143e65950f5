"""What a finished model is asked beyond its test films, kept in its run folder as `probe.npz`.

- How long it takes for a film.
- If it reads both modalities, what it says of test films whose posters, overviews or both were exchanged
  among them: for the perceptual score (Gat et al. 2021) and the modalities' Shapley values.
- And what it says of every poster of some films beside every overview of these films: for EMAP (Hessel and
  Lee 2020), the best approximation of a model by a function of the poster plus a function of the overview.

`mmfusion.reports.contributions` makes scores of these.
"""

import time
from pathlib import Path

import numpy as np

from mmfusion.arrays import parse_arrays, write_arrays
from mmfusion.errors import UserError
from mmfusion.files import read_regular
from mmfusion.runs import Run

EXCHANGES = 5  # permutations of the films
PAIRED = 128  # films for EMAP: its cost grows with their square
_LIMIT = 2**32  # bytes; for 100,000 films with 25 genres it has 0.2 GB


def is_probed(run: Run) -> bool:
    """Whether its model was asked already."""
    return _file(run).is_file()


def read_probe(run: Run):
    """What the model of a finished run answered.

    Returns:
        Milliseconds a film, and what it said of exchanged modalities as `contributions.Exchanged`, None for a
        model of one modality.

    Raises:
        UserError: it was not asked, or the file is damaged.
    """
    from mmfusion.reports.contributions import Exchanged

    if not is_probed(run):
        raise UserError(f"{run.folder} is not finished: it has no probe.npz")
    answers = parse_arrays(read_regular(_file(run), _LIMIT), _file(run))
    try:
        milliseconds = float(answers.pop("ms_per_film"))
        exchanged = Exchanged(**answers) if answers else None
        _check_form(milliseconds, exchanged, run.facts["films"].get("test"), len(run.genres))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{_file(run)} cannot be read: {error}") from error
    return milliseconds, exchanged


def _check_form(milliseconds: float, exchanged, films: int | None, genres: int) -> None:
    if not 0 <= milliseconds < np.inf:
        raise ValueError(f"a film took {milliseconds} ms")
    if exchanged is None:
        return
    paired = exchanged.paired
    if paired.ndim != 1 or paired.dtype.kind not in "iu" or not ((paired >= 0) & (paired < films)).all():
        raise ValueError("it pairs films that the run does not have")
    orders = (len(exchanged.both_exchanged), films, genres)
    pairs = (len(paired), genres)
    for name, found in vars(exchanged).items():
        shape = pairs if name in ("whole", "additive") else orders
        if name != "paired" and not (found.shape == shape and found.dtype.kind == "f" and np.isfinite(found).all()):
            raise ValueError(f"{name} must hold {shape} finite numbers")


def probe(run: Run, cache: Path) -> None:
    """Asks the model of a finished run, and writes its answers into the run folder.

    Args:
        run: finished.
        cache: where prepared films are kept.
    """
    from mmfusion import experiment, fitting
    from mmfusion.reports.contributions import Exchanged, additive_approximation
    from mmfusion.schema import MODALITIES, OVERVIEW, POSTER

    config = run.config
    prepared = experiment.prepare_again(run, cache)
    films, test = prepared.films, prepared.rows["test"]
    read, labels = prepared.inputs(config), films.labels[test]
    experiment.check_presets(run, read)
    model = experiment.load_model(run)

    def logits(of_poster, of_overview):  # the poster of one film beside the overview of another
        exchanged = read.exchanged({POSTER: test[of_poster], OVERVIEW: test[of_overview]})
        source = exchanged.source(labels[of_overview], config.data.batch_size)
        return fitting.logits_of(model, source, np.arange(len(of_poster)))

    same = np.arange(len(test))
    logits(same, same)  # traces the model for every length of overview
    start = time.perf_counter()
    logits(same, same)
    answers = {"ms_per_film": np.array((time.perf_counter() - start) / len(test) * 1000)}
    if run.facts["reads"] == list(MODALITIES):
        rng = np.random.default_rng(config.seed)
        orders = [(rng.permutation(same), rng.permutation(same)) for _ in range(EXCHANGES)]
        paired = np.sort(rng.permutation(same)[:PAIRED])
        # Some overviews at a time: all pairs would be gigabytes of posters at a larger size.
        square = np.concatenate(  # (M, M, G): overview, poster
            [
                logits(np.tile(paired, len(some)), np.repeat(some, len(paired))).reshape(len(some), len(paired), -1)
                for some in np.array_split(paired, -(-len(paired) // 8))
            ]
        )
        whole, additive = additive_approximation(square, of_probabilities=_adds_probabilities(config))
        answers |= vars(
            Exchanged(
                poster_exchanged=np.stack([_sigmoid(logits(order, same)) for order, _ in orders]),
                overview_exchanged=np.stack([_sigmoid(logits(same, order)) for _, order in orders]),
                both_exchanged=np.stack([_sigmoid(logits(*both)) for both in orders]),
                paired=paired,
                whole=whole,
                additive=additive,
            )
        )
    write_arrays(_file(run), answers)


def _file(run: Run) -> Path:
    return run.folder / "probe.npz"


def _adds_probabilities(config) -> bool:
    """Whether the sum is one of probabilities, as late fusion's averages are; elsewhere it is one of logits."""
    return bool(config.parts) and config.late.combiner in ("mean", "weighted")


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-np.asarray(logits, np.float64)))).astype(np.float32)
