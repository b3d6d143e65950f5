"""Writes predictions of many films into a CSV or Parquet file, as they come."""

import csv
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from tqdm import tqdm

from mmfusion.config import DataConfig
from mmfusion.data.film_table.unlabelled import FilmReader
from mmfusion.errors import UserError
from mmfusion.evaluation.metrics import tune_thresholds
from mmfusion.files import HALF_WRITTEN, inert, move_into_place
from mmfusion.inference import Predicted
from mmfusion.inference.many import ManyFilms
from mmfusion.runs import Run

FORMS = (".csv", ".parquet")
_DIGITS = 4  # of a probability in a CSV


def columns_of(genres: Sequence[str]) -> list[str]:
    """Names the columns: the film, what of it was read, then each genre's probability and decision."""
    return ["id", "read", *(name for genre in genres for name in (genre, f"{genre} decided"))]


def check_form(out: Path) -> None:
    """Refuses a file whose ending is not one of `FORMS`.

    Raises:
        UserError: it names them.
    """
    if out.suffix.casefold() not in FORMS:
        raise UserError(f"--out {out} must end with {' or '.join(FORMS)}")


def write_sheet(out: Path, genres: Sequence[str], predicted: Iterable[Predicted], thresholds: np.ndarray) -> None:
    """Writes a row a film.

    Args:
        out: the file; it takes its place whole, at the end.
        genres: G, of the run.
        predicted: films, some at a time.
        thresholds: (G,); a genre is decided for where its probability is at or above; NaN: 0.5.

    Raises:
        UserError: the file cannot be written.
    """
    at = np.where(np.isnan(thresholds), 0.5, thresholds)
    write = _write_csv if out.suffix.casefold() == ".csv" else _write_parquet
    with _beside(out) as beside:
        write(beside, columns_of(genres), predicted, at)


def predict_table(run: Run, data: DataConfig, out: Path, *, say: Callable[[str], None]) -> ManyFilms:
    """Predicts all films of a table into a file.

    Args:
        run: a finished run.
        data: the table, see `table_of_films`.
        out: a .csv or .parquet.
        say: takes lines that say how the table was understood.

    Raises:
        UserError: the table or the file cannot be read or written, or no film has anything that the run reads.
    """
    check_form(out)
    films = FilmReader(data)
    for line in films.account:
        say(line)
    many = ManyFilms(run, films)
    with tqdm(unit=" films", disable=None) as bar:  # no bar where there is no terminal

        def shown() -> Iterator[Predicted]:
            for some in many:
                bar.update(len(some.ids))
                yield some

        write_sheet(out, run.genres, shown(), thresholds_of(run))
    return many


def thresholds_of(run: Run) -> np.ndarray:
    """Gives (G,) the thresholds that were tuned on a run's validation films; NaN for a genre that none has."""
    validation = run.predictions("validation")
    return tune_thresholds(validation.y_true, validation.y_prob)


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    beside = None
    try:
        with tempfile.NamedTemporaryFile(dir=out.parent, prefix=f".{out.name}{HALF_WRITTEN}", delete=False) as file:
            beside = Path(file.name)
        yield beside
        beside.chmod(0o644)
        move_into_place(beside, out)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from error
    finally:
        if beside:
            beside.unlink(missing_ok=True)


def _write_csv(file: Path, columns: Sequence[str], predicted: Iterable[Predicted], at: np.ndarray) -> None:
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(map(inert, columns))
        for some in predicted:
            decided = some.y_prob >= at
            for film, read, probabilities, is_decided in zip(some.ids, some.read, some.y_prob, decided):
                pairs = zip(probabilities, is_decided) if read else ()
                cells = [cell for p, one in pairs for cell in (f"{p:.{_DIGITS}f}", int(one))]
                writer.writerow([inert(film), read, *(cells or [""] * 2 * len(at))])


def _write_parquet(file: Path, columns: Sequence[str], predicted: Iterable[Predicted], at: np.ndarray) -> None:
    types = [pa.string(), pa.string(), *[pa.float32(), pa.bool_()] * len(at)]
    schema = pa.schema(list(zip(columns, types)))
    with parquet.ParquetWriter(file, schema) as writer:
        for some in predicted:
            none = np.array([not read for read in some.read])
            arrays = [pa.array(some.ids), pa.array(some.read)]
            for probabilities, threshold in zip(some.y_prob.T, at):
                arrays += [
                    pa.array(probabilities, pa.float32(), mask=none),
                    pa.array(probabilities >= threshold, mask=none),
                ]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
