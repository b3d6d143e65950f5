"""What is timed: mmfusion and the plain notebook, each in a process of its own that waits its turn.

A process of its own, because what one side settles for TensorFlow (mmfusion makes it deterministic)
would hold for the other one too, and because the other side's memory would be counted.
"""

import multiprocessing
import tempfile
import time
from pathlib import Path

from mmfusion.config import resolve
from mmfusion.errors import UserError
from mmfusion.startup import import_tensorflow

WARM_UP = 4  # steps before a model is timed: tracing is in none of the epochs


class Product:
    """mmfusion, through the functions that `mmfusion.train` calls."""

    def __init__(self, recipe: str, data: dict, cache: Path):
        import_tensorflow()
        from mmfusion import experiment

        self._experiment, self._recipe, self._data = experiment, recipe, data
        self._config = self._configured("joint")
        self._prepared = experiment.prepare(self._config, cache)
        self._settle()
        self._source = experiment.source_of(self._config, self._prepared)
        self._models = {}

    def _settle(self) -> None:
        self._experiment.make_deterministic(0)

    def films(self) -> dict:
        return {split: len(ids) for split, ids in self._prepared.split.items()}

    def poster_bytes(self) -> int:
        """Memory or disk that all films' posters take, ready for training."""
        return self._prepared.films.posters.nbytes

    def cold(self) -> float:
        """Seconds from the files to posters ready for training, with an empty cache."""
        from mmfusion.data.films import load_films

        with tempfile.TemporaryDirectory() as cache:
            return _seconds(lambda: load_films(self._config.data, Path(cache)))

    def input(self) -> float:
        """Seconds for an epoch's batches when nobody trains on them."""
        batches = self._batches(0)
        return _seconds(lambda: [None for _ in batches])

    def warm_up(self, variant: str) -> None:
        """Makes, traces and runs a model for a few steps, so that no epoch is timed with that."""
        if variant == "late":
            self._models["late"] = self._late()
        else:
            config = self._configured(variant)
            self._models[variant] = model = self._experiment.build(config, self._prepared)
            self._compile(model, config)
            self._fit(model, WARM_UP)
        self.predict(variant)

    def epoch(self, variant: str) -> float:
        """Seconds of training; late fusion's are those of fitting its combiner, its parts being trained."""
        model = self._models[variant]
        if variant == "late":
            return _seconds(lambda: self._experiment.fit_combiner(model, self._source, self._prepared))
        return self._fit(model, None)

    def predict(self, variant: str) -> float:
        """Seconds for the logits of the test films."""
        model, rows = self._models[variant], self._prepared.rows("test")
        return _seconds(lambda: self._experiment.logits_of(model, self._source, rows))

    def flops(self, variant: str) -> float:
        """Floating-point operations of an epoch; see `benchmarks.flops`."""
        from benchmarks.flops import training_flops
        from mmfusion.schema import as_model_inputs

        model = self._models[variant]
        batches = self._batches(0).map(as_model_inputs).as_numpy_iterator()
        return training_flops(model, (inputs for inputs, _ in batches))

    def matmul_peak(self) -> float:
        """This machine's floating-point operations a second in a large float32 matrix product."""
        import tensorflow as tf

        side = 4096
        square = tf.random.stateless_normal((side, side), seed=(0, 0))
        product = tf.function(lambda: tf.reduce_sum(tf.matmul(square, square)))
        product().numpy()
        return 2 * side**3 / min(_seconds(lambda: product().numpy()) for _ in range(5))

    def _configured(self, variant: str):
        return resolve(variant, recipe=self._recipe, overrides=self._data)

    def _batches(self, epoch: int):
        rows = self._prepared.rows("train")
        augment = self._config.data.augment
        return self._source.training(rows, seed=0, epochs=[epoch], augment=augment)

    def _compile(self, model, config) -> None:
        self._experiment.compile_model(model, config)

    def _late(self):
        """Late fusion of this process' own CNN and BiLSTM."""
        model = self._experiment.build(self._configured("late"), self._prepared)
        for part, variant in ((model.poster_model, "cnn"), (model.overview_model, "bilstm")):
            part.set_weights(self._models[variant].get_weights())
        return model

    def _fit(self, model, steps: int | None) -> float:
        from mmfusion.schema import as_model_inputs

        batches = self._batches(1).map(as_model_inputs)
        if steps:
            batches = batches.take(steps)
        return _seconds(lambda: model.fit(batches, shuffle=False, verbose=0))


class PlainNotebook:
    """The notebook of `benchmarks.notebook`, with the same questions answered."""

    def __init__(self, folder: Path):
        import_tensorflow()
        from benchmarks import notebook

        self._notebook, self._folder = notebook, folder
        self._films = notebook.Notebook(folder)
        last, total = self._films.training, len(self._films.files)
        reads = {"cnn": self._films.posters, "bilstm": self._films.tokens}
        self._batches = {variant: read(0, last) for variant, read in reads.items()}
        self._test = {variant: read(last, total) for variant, read in reads.items()}
        for batches in (*self._batches.values(), *self._test.values()):
            for _ in batches:  # fills the cache
                pass
        self._models = {}

    def poster_bytes(self) -> int:
        return len(self._films.files) * self._notebook.SIZE**2 * 3 * 4

    def cold(self) -> float:
        def read():
            films = self._notebook.Notebook(self._folder)
            for _ in films.posters(0, len(films.files)):
                pass

        return _seconds(read)

    def input(self) -> float:
        def read():
            for variant in self._batches:
                for _ in self._notebook.shuffled(self._batches[variant]):
                    pass

        return _seconds(read)

    def warm_up(self, variant: str) -> None:
        if variant == "joint":  # its two models are warm by then
            return
        model = getattr(self._notebook, variant)(self._films.labels.shape[1])
        model.fit(self._batches[variant].take(WARM_UP), shuffle=False, verbose=0)
        model.predict(self._test[variant], verbose=0)
        self._models[variant] = model

    def epoch(self, variant: str) -> float:
        """For `joint` the CNN and the BiLSTM one after the other: a notebook has no fusion."""
        seconds = 0.0
        for part in _parts(variant):
            model, batches = self._models[part], self._notebook.shuffled(self._batches[part])
            seconds += _seconds(lambda model=model, batches=batches: model.fit(batches, shuffle=False, verbose=0))
        return seconds

    def predict(self, variant: str) -> float:
        def work():
            for part in _parts(variant):
                self._models[part].predict(self._test[part], verbose=0)

        return _seconds(work)

    def flops(self, variant: str) -> float:
        from benchmarks.flops import training_flops

        return sum(
            training_flops(self._models[part], (inputs for inputs, _ in self._batches[part].as_numpy_iterator()))
            for part in _parts(variant)
        )


def _parts(variant: str) -> tuple[str, ...]:
    return ("cnn", "bilstm") if variant == "joint" else (variant,)


class Worker:
    """One side in a process of its own: `worker.ask("epoch", "cnn")` is `side.epoch("cnn")` over there."""

    def __init__(self, side: type, *args):
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, side, args), daemon=True)
        self._process.start()
        there.close()
        self._answer()

    def ask(self, question: str, *args):
        """Raises a UserError when the other process could not answer."""
        self._here.send((question, args))
        return self._answer()

    def close(self) -> None:
        self._here.close()
        self._process.join()

    def _answer(self):
        try:
            answer, error = self._here.recv()
        except EOFError:
            raise UserError("a process of the benchmark ended before its answer; is there enough memory?") from None
        if error:
            raise UserError(error)
        return answer


def _serve(pipe, side: type, args) -> None:
    try:
        served = side(*args)
        answer = None
        while True:
            pipe.send((answer, None))
            question, args = pipe.recv()
            answer = getattr(served, question)(*args)
    except UserError as error:
        pipe.send((None, str(error)))
    except (EOFError, KeyboardInterrupt):  # the benchmark is done, or was stopped
        return


def _seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
