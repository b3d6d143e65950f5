"""The run folder: every file of a run is named, written and read here, without TensorFlow."""

import contextlib
import csv
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmfusion import config as configs
from mmfusion.config import Config
from mmfusion.errors import UserError
from mmfusion.files import check_id, write_atomically

PARTS = ("cnn", "bilstm")  # of late fusion: its poster model and its overview model


@dataclass(frozen=True)
class Predictions:
    """What a model said of the films of one split."""

    ids: tuple[str, ...]  # N
    y_true: np.ndarray  # uint8 (N, G)
    y_prob: np.ndarray  # float32 (N, G), in [0, 1]


class Run:
    """One run's folder. Reading a file that is not there, or not as it should be, is a `UserError`."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.config_file = self.folder / "config.json"
        self.history_file = self.folder / "history.csv"
        self.model_file = self.folder / "model.keras"
        self.state_file = self.folder / "resume.weights.h5"
        self.predictions_file = self.folder / "predictions.npz"
        self.report_file = self.folder / "report.json"
        self.films_folder = self.folder / "films"
        self.figures_folder = self.folder / "figures"

    @classmethod
    @contextlib.contextmanager
    def create(cls, folder: str | Path) -> Iterator["Run"]:
        """Gives a new run to write into; its folder takes its place, whole, at the end of the block.

        Args:
            folder: must not exist, or be empty.

        Raises:
            UserError: there is something in the folder already, or it cannot be made.
        """
        folder = Path(folder)
        check_free(folder)
        beside = folder.with_name(f".{folder.name}-{os.getpid()}")
        try:
            with _cannot_make(folder):
                beside.mkdir(parents=True)
            yield cls(beside)
            with _cannot_make(folder):
                beside.replace(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def write_config(self, config: Config, facts: dict) -> None:
        """Writes `config.json`: the configuration, and under "facts" what else was decided."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_json(self.config_file, {**config.to_dict(), "facts": facts})

    @classmethod
    def open(cls, folder: str | Path, *, finished: bool = True) -> "Run":
        """An existing run.

        Raises:
            UserError: it is no run folder, or not a finished one where that is asked for.
        """
        run = cls(folder)
        if not run.config_file.is_file():
            raise UserError(f"{run.folder} is not a run folder: it has no config.json")
        if finished and not run.finished:
            raise UserError(f"the run {run.folder} is not finished; go on with --resume {run.folder}")
        return run

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def finished(self) -> bool:
        """`report.json` is written last."""
        return self.report_file.is_file()

    @property
    def trained(self) -> bool:
        """Whether nothing but the report is left to do; the state to go on from is removed at the end."""
        return self.predictions_file.is_file() and not self.state_file.is_file()

    @property
    def config(self) -> Config:
        values = self._read_json(self.config_file)
        values.pop("facts", None)
        return configs.from_dict(values, where=str(self.config_file))

    @property
    def facts(self) -> dict:
        return self._read_json(self.config_file).get("facts", {})

    def part(self, variant: str) -> "Run":
        """The run of one part of late fusion, inside this one."""
        return Run(self.folder / "parts" / variant)

    def copy_part(self, part: "Run") -> None:
        """Copies a finished run in as a part of late fusion, so that this run needs no other folder."""
        try:
            shutil.copytree(part.folder, self.part(part.config.variant).folder)
        except (OSError, shutil.Error) as error:
            raise UserError(f"cannot copy {part.folder} into {self.folder}: {error}") from error

    def copy_training(self, earlier: "Run") -> None:
        """Copies what another run trained, so that training goes on from there."""
        try:
            for file in (earlier.history_file, earlier.model_file, earlier.state_file):
                shutil.copyfile(file, self.folder / file.name)
        except OSError as error:
            raise UserError(f"cannot copy {earlier.folder} into {self.folder}: {error}") from error

    @property
    def parts(self) -> list["Run"]:
        """The parts of late fusion; none for the other variants."""
        return [self.part(variant) for variant in PARTS if self.part(variant).config_file.is_file()]

    def write_data(self, split: dict, genres: tuple[str, ...], vocabulary: list[str], skipped: dict) -> None:
        """Writes what was decided from the data before training."""
        self._write_json(self.folder / "split.json", split)
        self._write_json(self.folder / "genres.json", list(genres))
        # A word cannot hold white space, so a line each needs no quoting.
        write_atomically(self.folder / "vocabulary.txt", "\n".join(vocabulary))
        if skipped:
            write_atomically(self.folder / "skipped.csv", _csv(["id", "reason"], skipped.items()))

    @property
    def split(self) -> dict[str, list[str]]:
        return self._read_json(self.folder / "split.json")

    @property
    def genres(self) -> tuple[str, ...]:
        return tuple(self._read_json(self.folder / "genres.json"))

    @property
    def vocabulary(self) -> list[str]:
        return self._read(self.folder / "vocabulary.txt").decode().split("\n")

    def write_history(self, rows: list[dict]) -> None:
        """Writes all epochs so far; floats keep all their digits, so that `--resume` reads what was."""
        columns = list(rows[0]) if rows else ["epoch"]
        write_atomically(self.history_file, _csv(columns, ([row[c] for c in columns] for row in rows)))

    @property
    def history(self) -> list[dict[str, float]]:
        """A dict an epoch; empty where nothing was trained (late fusion's history is in its parts)."""
        if not self.history_file.is_file():
            return []
        rows = csv.DictReader(io.StringIO(self._read(self.history_file).decode()))
        return [{k: int(v) if k == "epoch" else float(v) for k, v in row.items()} for row in rows]

    def write_predictions(self, predictions: dict[str, Predictions]) -> None:
        """Writes one file for all splits: `ids_SPLIT`, `y_true_SPLIT`, `y_prob_SPLIT`."""
        arrays = {}
        for split, found in predictions.items():
            arrays[f"ids_{split}"] = np.array(found.ids)
            arrays[f"y_true_{split}"] = np.asarray(found.y_true, np.uint8)
            arrays[f"y_prob_{split}"] = np.asarray(found.y_prob, np.float32)
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        write_atomically(self.predictions_file, buffer.getbuffer())

    def predictions(self, split: str) -> Predictions:
        """The validation or test predictions; pickles in the file are refused."""
        try:
            with np.load(self.predictions_file, allow_pickle=False) as arrays:
                found = Predictions(
                    ids=tuple(arrays[f"ids_{split}"].tolist()),
                    y_true=arrays[f"y_true_{split}"],
                    y_prob=arrays[f"y_prob_{split}"],
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(f"{self.predictions_file} cannot be read: {error}") from error
        shape = (len(found.ids), len(self.genres))
        if found.y_true.shape != shape or found.y_prob.shape != shape:
            raise UserError(f"{self.predictions_file} does not fit genres.json: {found.y_prob.shape}, {shape}")
        return found

    @property
    def report(self) -> dict:
        """The run's `report.json`."""
        return self._read_json(self.report_file)

    def write_films(self, posters: dict[str, bytes], overviews: dict[str, str]) -> None:
        """Keeps some films whole, so that their pictures can be drawn from the run folder alone."""
        self.films_folder.mkdir(exist_ok=True)
        for film, poster in posters.items():
            write_atomically(self.films_folder / f"{film}.jpg", poster)
        self._write_json(self.films_folder / "overviews.json", overviews)

    def films(self) -> dict[str, tuple[Path, str]]:
        """The films that were kept: poster file and overview, by id."""
        if not (self.films_folder / "overviews.json").is_file():
            return {}
        file = self.films_folder / "overviews.json"
        return {
            check_id(film, str(file)): (self.films_folder / f"{film}.jpg", text)
            for film, text in self._read_json(file).items()
        }

    def _read(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error

    def _read_json(self, path: Path):
        try:
            return json.loads(self._read(path))
        except ValueError as error:
            raise UserError(f"{path} is not valid JSON: {error}") from error

    def _write_json(self, path: Path, value) -> None:
        write_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def check_free(folder: Path) -> None:
    """Refuses a folder that something is in.

    Raises:
        UserError: it says so, and what to do.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already; name another with --out, or go on with --resume {folder}")


@contextlib.contextmanager
def _cannot_make(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot make the run folder {folder}: {error.strerror}") from error


def _csv(columns, rows) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
