"""Callbacks that keep the best epoch and make an interrupted training go on as if nothing had happened."""

import os
import time
from pathlib import Path

import keras
import numpy as np

from mmfusion.errors import UserError
from mmfusion.runs import Run

MONITOR = "val_loss"  # the best epoch is the one with the least of it


class EpochSeeds(keras.callbacks.Callback):
    """Makes dropout a function of (seed, epoch), as the order of films and their augmentation are.

    Keras counts a dropout layer's draws in a variable that goes on from step to step; set anew at the
    start of each epoch, it does not matter whether the epochs before ran in this process.
    """

    def __init__(self, seed: int):
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        states = [v for v in self.model.variables if "seed_generator_state" in v.path]
        for number, state in enumerate(states):
            sequence = np.random.SeedSequence([self._seed, epoch, number])
            state.assign(sequence.generate_state(state.shape[0]).astype(np.uint32))


class Checkpoint(keras.callbacks.Callback):
    """Writes, after every epoch, the history, the state to go on from, and the model if it is the best.

    The order matters: the state is written last and knows its epoch, so what an interruption leaves
    beyond it is made again, the same.

    Args:
        run: where to write.
        patience: stop after so many epochs without a better validation loss; 0: never.
        steps: batches an epoch.
    """

    def __init__(self, run: Run, *, patience: int, steps: int):
        super().__init__()
        self._run = run
        self._patience = patience
        self._steps = steps
        self._rows: list[dict] = []

    def restore(self, model: keras.Model) -> int:
        """Puts the model and the history back where the last whole epoch left them.

        Returns:
            The epoch to go on with; 0 when there is nothing to go on from.
        """
        if not self._run.state_file.is_file():
            return 0
        model.optimizer.build(model.trainable_variables)
        try:
            model.load_weights(self._run.state_file)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{self._run.state_file} cannot be read; delete it to train again from the first epoch"
            ) from error
        epochs = int(model.optimizer.iterations) // self._steps
        self._rows = self._run.history[:epochs]
        return epochs

    @property
    def stopped_early(self) -> bool:
        """Whether the patience is used up."""
        losses = [row[MONITOR] for row in self._rows]
        return bool(self._patience and losses) and len(losses) - 1 - int(np.argmin(losses)) >= self._patience

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._started
        row = {"epoch": epoch + 1, "seconds": round(seconds, 3), **{k: float(v) for k, v in logs.items()}}
        for name in ("loss", MONITOR):
            if not np.isfinite(row[name]):
                kept = f"the best epoch before is in {self._run.model_file}" if self._rows else "nothing is kept"
                raise UserError(
                    f"{name} is {row[name]} in epoch {epoch + 1} ({kept}); train again with a lower "
                    "training.learning_rate"
                )
        if all(row[MONITOR] < before[MONITOR] for before in self._rows):
            save_model(self.model, self._run.model_file)
        self._rows.append(row)
        self._run.write_history(self._rows)
        _save(self.model.save_weights, self._run.state_file)
        self.model.stop_training = self.stopped_early


def save_model(model: keras.Model, path: Path) -> None:
    """Saves the model as `.keras`, whole or not at all."""
    _save(model.save, path)


def _save(save, path: Path) -> None:
    # Keras chooses the format by the name's ending and opens the file itself, so the file beside the
    # place ends as the place does.
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        save(beside)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        beside.unlink(missing_ok=True)
