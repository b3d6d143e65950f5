"""The two sides that are timed: mmfusion and the plain notebook, each in a process that waits its turn.

A process of its own, because what one side settles for TensorFlow (mmfusion makes it deterministic)
would hold for the other one too, and because the other side's memory would be counted.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mmfusion.config import resolve
from mmfusion.errors import UserError
from mmfusion.schema import OVERVIEW, POSTER
from mmfusion.startup import import_tensorflow

WARM_UP = 256  # films before a model is timed: tracing is in none of the epochs


class Product:
    """mmfusion, through the functions that `mmfusion.train` calls."""

    def __init__(self, recipe: str, data: dict, cache: Path):
        import_tensorflow()
        from mmfusion.training import experiment, fitting, preparation

        self._experiment, self._fitting = experiment, fitting
        self._recipe, self._data, self._cache = recipe, data, cache
        self._config = self._configured("joint")
        self._prepared = preparation.prepare(self._config, cache)
        self._settle()
        self._models, self._sources = {}, {}

    def _settle(self) -> None:
        self._fitting.make_deterministic(0)

    def films(self) -> dict:
        return {split: len(ids) for split, ids in self._prepared.split.items()}

    def poster_bytes(self) -> int:
        """Memory or disk that all films' posters take, ready for training."""
        return self._prepared.films.posters.nbytes

    def cold(self) -> float:
        """Seconds from the files to posters ready for training, with an empty cache."""
        from mmfusion.data.films import load_films

        with tempfile.TemporaryDirectory() as cache:
            return _seconds(
                lambda: load_films(self._config.data, Path(cache), poster_size=self._config.poster_size)
            )

    def input(self) -> float:
        """Seconds for an epoch's batches when nobody trains on them."""
        return _pass_seconds([self._batches("joint", self._prepared.rows["train"])])

    def warm_up(self, variant: str) -> None:
        """Makes, traces and runs a model for a few steps, so that no epoch is timed with that."""
        config = self._configured(variant)
        for part in config.parts:
            if part not in self._models:
                self.warm_up(part)
        if config.parts:
            self._models[variant] = self._late(variant)
        else:
            self._models[variant] = model = self._build(variant)
            self._compile(model, config)
            self._fit(variant, self._prepared.rows["train"][:WARM_UP])
        self.predict(variant)

    def epoch(self, variant: str) -> float:
        """Seconds of training; late fusion's are those of fitting a combiner, its parts being trained."""
        model = self._models[variant]
        if self._configured(variant).parts:
            source, labels = self._source(variant), self._prepared.films.labels
            return _seconds(
                lambda: self._fitting.fit_combiner(model, source, self._prepared.rows["validation"], labels)
            )
        return self._fit(variant, self._prepared.rows["train"])

    def predict(self, variant: str) -> float:
        """Seconds for the logits of the films that are not trained on: a fifth, as in the notebook."""
        model, source = self._models[variant], self._source(variant)
        rows = np.concatenate([self._prepared.rows[split] for split in ("validation", "test")])
        return _seconds(lambda: self._fitting.logits_of(model, source, rows))

    def flops(self, variant: str) -> float:
        """Floating-point operations of an epoch; see `benchmarks.flops`."""
        from benchmarks.flops import training_flops

        model = self._models[variant]
        batches = self._fed(variant, self._prepared.rows["train"]).as_numpy_iterator()
        return training_flops(model, (inputs for inputs, _ in batches))

    def matmul_peak(self) -> float:
        """This machine's floating-point operations a second in a large float32 matrix product."""
        import tensorflow as tf

        side = 2048
        square = tf.random.stateless_normal((side, side), seed=(0, 0))
        product = tf.function(lambda: tf.reduce_sum(tf.matmul(square, square)))
        product().numpy()
        return 2 * side**3 / min(_seconds(lambda: product().numpy()) for _ in range(5))

    def _configured(self, variant: str):
        # Stacking is the combiner with the most to fit.
        return resolve(variant, recipe=self._recipe, overrides={"late.combiner": "stacked", **self._data})

    def _prepared_for(self, config):
        """The same films in the same split, with the vocabulary that this variant has."""
        return self._experiment.prepare(config, self._cache)

    def _build(self, variant: str):
        config = self._configured(variant)
        prepared = self._prepared_for(config)
        return self._experiment.build(config, prepared, prepared.inputs(config))

    def _source(self, variant: str):
        """The films as this variant reads them; made when it is first asked for."""
        if variant not in self._sources:
            config = self._configured(variant)
            inputs = self._prepared_for(config).inputs(config)
            self._sources[variant] = inputs.source(self._prepared.films.labels, config.data.batch_size)
        return self._sources[variant]

    def _batches(self, variant: str, rows: np.ndarray):
        return self._source(variant).training(rows, seed=0, epochs=[0], augmentation=self._config.augmentation)

    def _fed(self, variant: str, rows: np.ndarray):
        """The same as `fit` reads them."""
        return self._batches(variant, rows).map(self._source(variant).as_model_inputs)

    def _compile(self, model, config) -> None:
        self._fitting.compile_model(model, config)

    def _late(self, variant: str):
        """Late fusion of this process' own models of one modality."""
        model = self._build(variant)
        for part, name in zip(model.models.values(), self._configured(variant).parts, strict=True):
            part.set_weights(self._models[name].get_weights())
        return model

    def _fit(self, variant: str, rows: np.ndarray) -> float:
        return _epoch_seconds(self._models[variant], self._fed(variant, rows))


class PlainNotebook:
    """The notebook of `benchmarks.notebook`, with the same questions answered."""

    def __init__(self, folder: Path):
        import_tensorflow()
        from benchmarks import notebook

        self._notebook, self._folder = notebook, folder
        self._films = notebook.Notebook(folder)
        last, total = self._films.training, len(self._films.files)
        reads: dict[str, Callable] = {POSTER: self._films.posters, OVERVIEW: self._films.tokens}
        self._batches = {variant: read(0, last) for variant, read in reads.items()}
        self._test = {variant: read(last, total) for variant, read in reads.items()}
        for batches in (*self._batches.values(), *self._test.values()):
            for _ in batches:  # fills the cache
                pass
        self._models = {}

    def poster_bytes(self) -> int:
        return len(self._films.files) * self._notebook.SIZE**2 * 3 * 4

    def cold(self) -> float:
        start = time.perf_counter()
        films = self._notebook.Notebook(self._folder)
        opened = time.perf_counter() - start
        return opened + _pass_seconds([films.posters(0, len(films.files))])

    def input(self) -> float:
        return _pass_seconds([self._notebook.shuffled(batches) for batches in self._batches.values()])

    def warm_up(self, variant: str) -> None:
        model = self._notebook.MODELS[variant](self._films.labels.shape[1])
        model.fit(self._batches[variant].take(WARM_UP // self._notebook.BATCH), shuffle=False, verbose=0)
        model.predict(self._test[variant], verbose=0)
        self._models[variant] = model

    def epoch(self, variant: str) -> float:
        return _epoch_seconds(self._models[variant], self._notebook.shuffled(self._batches[variant]))

    def predict(self, variant: str) -> float:
        import keras

        times = []
        callback = keras.callbacks.LambdaCallback(
            on_predict_begin=lambda logs: times.append(time.perf_counter()),
            on_predict_end=lambda logs: times.append(time.perf_counter()),
        )
        self._models[variant].predict(self._test[variant], verbose=0, callbacks=[callback])
        return times[1] - times[0]  # without the wait that `_epoch_seconds` tells of

    def flops(self, variant: str) -> float:
        from benchmarks.flops import training_flops

        batches = self._batches[variant].as_numpy_iterator()
        return training_flops(self._models[variant], (inputs for inputs, _ in batches))


class Worker:
    """One side in a process of its own: `worker.ask("epoch", "joint")` is `side.epoch("joint")` over there."""

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
    except (EOFError, KeyboardInterrupt):  # the benchmark is done, or was stopped
        return
    except UserError as error:
        pipe.send((None, str(error)))
    except Exception as error:  # whatever it is, the one who waits should read it
        first_line = (str(error).splitlines() or [""])[0]
        pipe.send((None, f"{type(error).__name__}: {first_line}"))


def _epoch_seconds(model, batches) -> float:
    """Seconds from the epoch's begin to its end.

    Not those of the whole `fit`: where tf.data tunes itself, as in a notebook, the end of an iterator
    waits for the tuner's next turn, once a `fit` and not once an epoch.
    """
    import keras

    times = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: times.append(time.perf_counter()),
        on_epoch_end=lambda epoch, logs: times.append(time.perf_counter()),
    )
    model.fit(batches, shuffle=False, verbose=0, callbacks=[callback])
    return times[1] - times[0]


def _pass_seconds(datasets: list) -> float:
    """Seconds for one pass over each, without the wait at an iterator's end, as above."""
    iterators = []
    start = time.perf_counter()
    for dataset in datasets:
        iterators.append(iter(dataset))
        for _ in iterators[-1]:
            pass
    return time.perf_counter() - start


def _seconds(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
