"""`python -m benchmarks.options`: what else could make training faster, each against training as it is."""

import os
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from benchmarks.sides import Product, Worker
from mmfusion.config import resolve
from mmfusion.data.recognition import forget
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.files import make_folder, write_atomically
from mmfusion.schema import MODALITIES
from mmfusion.startup import begin_command, import_tensorflow

FILMS = 1024  # trained on each time
RECIPE = "report"
VARIANTS = MODALITIES  # each modality's own


@dataclass(frozen=True)
class Option:
    """One thing to do otherwise."""

    name: str
    settings: dict = field(default_factory=dict)  # of the configuration
    model: dict = field(default_factory=dict)  # attributes that `Model.compile` sets
    environment: dict = field(default_factory=dict)
    threads: tuple[int, int] | None = None  # inside an operation, and operations side by side
    deterministic: bool = True
    keras_lstm: bool = False


OPTIONS = (
    Option("bfloat16 arithmetic (`training.precision`)", settings={"training.precision": "mixed_bfloat16"}),
    Option("batches of 256 (`data.batch_size`)", settings={"data.batch_size": 256}),
    Option("Keras' own `Bidirectional(LSTM)`", keras_lstm=True),
    Option("without TensorFlow's op determinism", deterministic=False),
    Option("XLA (`jit_compile`), which needs that too", model={"jit_compile": True}, deterministic=False),
    Option("8 steps per execution", model={"steps_per_execution": 8}),
    Option("one thread inside an operation, two operations at once", threads=(1, 2)),
    Option("two threads inside an operation, one operation at once", threads=(2, 1)),
    Option("without oneDNN", environment={"TF_ENABLE_ONEDNN_OPTS": "0"}),
)


class Varied(Product):
    """The product with one option."""

    def __init__(self, option: Option, data: dict, cache: Path):
        os.environ.update(option.environment)
        import_tensorflow()
        import keras
        import tensorflow as tf

        if option.threads:
            tf.config.threading.set_intra_op_parallelism_threads(option.threads[0])
            tf.config.threading.set_inter_op_parallelism_threads(option.threads[1])
        if option.keras_lstm:
            mock.patch("mmfusion.models.overview_encoders.BidirectionalLSTM", keras.layers.Bidirectional).start()
        self._option = option
        super().__init__(RECIPE, {**data, **option.settings}, cache)

    def _settle(self) -> None:
        if self._option.deterministic:
            super()._settle()

    def _compile(self, model, config) -> None:
        super()._compile(model, config)
        for name, value in self._option.model.items():
            setattr(model, name, value)
            if getattr(model, name) != value:  # Keras may warn and go on without it
                raise UserError(f"Keras does not do {name}={value}")

    def steps(self, variant: str) -> float:
        """Seconds a film of a few training steps."""
        rows = self._prepared.rows["train"][:FILMS]
        return self._fit(variant, rows) / len(rows)


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m benchmarks.options", description=__doc__)
    p.add_argument("--data-dir", type=Path, required=True, metavar="DIR", help="real films")
    p.add_argument("--repeats", type=int, default=3, metavar="N", help="default: 3")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="for options.md")
    p.add_argument("--cache-dir", metavar="DIR", help="prepared films (default: $MMFUSION_CACHE)")
    p.add_argument("--rehash", action="store_true", help="read films anew whose files look unchanged")
    return p


def main() -> None:
    """Times each option in turn with training as it is, then prints and writes the table."""
    args = parser().parse_args()
    if args.repeats < 1:
        raise UserError("--repeats must be at least 1")
    cache = begin_command(args.cache_dir)
    if args.rehash:
        forget(cache)
    make_folder(args.out)
    data = {"data.dataset": "multimodal_imdb", "data.data_dir": str(args.data_dir.resolve())}
    plain = _worker(Option("as it is"), data, cache)
    labels = [resolve(variant, recipe=RECIPE).label for variant in VARIANTS]
    lines = [
        f"Recipe `{RECIPE}`, {os.cpu_count()} cores; milliseconds a film in training, median of "
        f"{args.repeats}, each in turn with training as it is.",
        "",
        f"| | {' | '.join(f'{label} | as it is | times faster' for label in labels)} |",
        f"| --- |{' ---: | ---: | ---: |' * len(VARIANTS)}",
    ]
    for option in OPTIONS:
        print(f"  {time.strftime('%H:%M:%S')} {option.name}", file=sys.stderr, flush=True)
        cells = [option.name]
        try:
            worker = _worker(option, data, cache)
            for variant in VARIANTS:
                seconds = [(worker.ask("steps", variant), plain.ask("steps", variant)) for _ in range(args.repeats)]
                ours, before = (statistics.median(side) for side in zip(*seconds))
                cells += [f"{ours * 1000:.2f}", f"{before * 1000:.2f}", f"{before / ours:.2f}"]
            worker.close()
        except UserError as error:
            cells += [f"failed: {error}"]
        lines.append(f"| {' | '.join(cells)} |")
    write_atomically(args.out / "options.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


def _worker(option: Option, data: dict, cache: Path) -> Worker:
    worker = Worker(Varied, option, data, cache)
    for variant in VARIANTS:
        worker.ask("warm_up", variant)
    return worker


if __name__ == "__main__":
    sys.exit(run_command(main))
