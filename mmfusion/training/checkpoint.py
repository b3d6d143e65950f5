"""Callbacks that keep the best epoch and make an interrupted training go on as if nothing had happened."""

import time

import keras
import numpy as np

from mmfusion.errors import UserError
from mmfusion.models.weights import save_model
from mmfusion.runs import Run

MONITOR = "val_loss"  # the best epoch is the one with the least of it


class EpochSeeds(keras.callbacks.Callback):
    """Makes dropout a function of (seed, epoch), as the order of films and their augmentation are.

    Keras counts a dropout layer's draws in a variable that goes on from step to step; set anew at the
    start of each epoch, it does not matter whether the epochs before ran in this process.
    """

    model: keras.Model

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

    The order matters. The state knows its epoch, so a line of the history beyond it is made again, the same;
    and a best epoch whose model was not written yet is the state's own, so the model is written again from it.

    Args:
        run: where to write.
        patience: stop after so many epochs without a better validation loss; 0: never.
    """

    model: keras.Model

    def __init__(self, run: Run, *, patience: int):
        super().__init__()
        self._run = run
        self._patience = patience
        self._rows: list[dict] = []

    def restore(self, model: keras.Model) -> int:
        """Puts the model and the history back where the last whole epoch left them.

        Args:
            model: compiled.

        Returns:
            The epoch to go on with; 0 when there is nothing to go on from.

        Raises:
            UserError: the state cannot be read, or is that of another model.
        """
        state = self._run.read_state()
        if not state:
            return 0
        variables = _variables(model)
        wanted = {"epoch": ()} | {name: tuple(v.shape) for name, v in variables.items()}
        found = {name: array.shape for name, array in state.items()}
        epochs = int(state["epoch"]) if found == wanted else 0
        self._rows = self._run.history[:epochs]
        if not epochs or len(self._rows) < epochs:
            raise UserError(
                f"{self._run.state_file} is not of this run; delete it to train again from the first epoch"
            )
        for name, variable in variables.items():
            variable.assign(state[name])
        if self._is_best(epochs - 1):
            self._save(model)
        return epochs

    @property
    def stopped_early(self) -> bool:
        """Tells if the patience is used up."""
        losses = [row[MONITOR] for row in self._rows]
        return bool(self._patience and losses) and len(losses) - 1 - int(np.argmin(losses)) >= self._patience

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch, logs):
        seconds = time.perf_counter() - self._started
        row = {"epoch": epoch + 1, "seconds": round(seconds, 3), **{k: float(v) for k, v in logs.items()}}
        wrong = [f"{name} is {row[name]}" for name in ("loss", MONITOR) if not np.isfinite(row[name])]
        # Behind batch normalisation weights can be lost while the loss is still a number.
        weights = {v.path: keras.ops.convert_to_numpy(v) for v in self.model.weights}
        wrong += [f"{path} is not finite" for path, array in weights.items() if not np.isfinite(array).all()]
        if wrong:
            kept = f"the best epoch before is in {self._run.model_file}" if self._rows else "nothing is kept"
            raise UserError(
                f"{wrong[0]} in epoch {epoch + 1} ({kept}); train again with a lower training.learning_rate"
            )
        self._rows.append(row)
        self._run.write_history(self._rows)
        arrays = {name: keras.ops.convert_to_numpy(v) for name, v in _variables(self.model).items()}
        self._run.write_state({"epoch": np.int64(epoch + 1), **arrays})
        if self._is_best(epoch):
            self._save(self.model)
        self.model.stop_training = self.stopped_early

    def _save(self, model: keras.Model) -> None:
        """Writes the model, with the average of its weights where one is kept: it is what was validated."""
        if not model.optimizer.use_ema:
            return save_model(model, self._run.model_file)
        own = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]
        model.optimizer.finalize_variable_values(model.trainable_weights)
        try:
            save_model(model, self._run.model_file)
        finally:  # training goes on from its own
            for weight, values in zip(model.trainable_weights, own, strict=True):
                weight.assign(values)

    def _is_best(self, epoch: int) -> bool:
        return all(self._rows[epoch][MONITOR] < before[MONITOR] for before in self._rows[:epoch])


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All that training changes, by a name that the same model always gives it."""
    variables = [*model.variables, *model.optimizer.variables]
    return {f"{number:04d}": variable for number, variable in enumerate(variables)}
