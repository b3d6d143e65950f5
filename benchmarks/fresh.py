"""One side of the throughput benchmark from the command to its first steps, in a process of its own."""

import contextlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from mmfusion.schema import POSTER
from mmfusion.startup import begin_command, import_tensorflow

STEPS = 20  # after so many a training takes no more memory than before


class _EnoughError(Exception):
    """Ends the training."""


def _product(variant: str, recipe: str, data: dict, cache: str, step_done) -> None:
    """`mmfusion.train` itself; it calls back after every step."""
    from mmfusion import train
    from mmfusion.training import checkpoint

    checkpoint.Checkpoint.on_train_batch_end = step_done
    out = tempfile.mkdtemp()
    shutil.rmtree(out)
    flags = ["--variant", variant, "--recipe", recipe, "--epochs", "1", "--out", out, "--cache-dir", cache]
    sys.argv = ["train", *flags]
    for key, value in data.items():
        sys.argv += ["--set", f"{key}={value}"]
    try:
        train.main()
    finally:
        shutil.rmtree(out, ignore_errors=True)


def _notebook(variant: str, data: dict, step_done) -> None:
    import_tensorflow()
    import keras

    from benchmarks import notebook

    films = notebook.Notebook(Path(data["data.data_dir"]))
    read = films.posters if variant == POSTER else films.tokens
    model = notebook.MODELS[variant](films.labels.shape[1])
    callback = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: step_done(None, batch))
    last, total = films.training, len(films.files)
    validation = read(last, total)
    model.fit(
        notebook.shuffled(read(0, last)), validation_data=validation, callbacks=[callback], shuffle=False, verbose=0
    )


def main() -> None:
    """Prints when the first step was done (Unix time), and the most memory at any step, in bytes."""
    side, variant, recipe, data, cache = sys.argv[1:]
    begin_command(cache)
    first, memory = [], []

    def step_done(callback, batch, logs=None):
        if not first:
            first.append(time.time())
        memory.append(_own_memory())
        if len(memory) == STEPS:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        if side == "mmfusion":
            _product(variant, recipe, json.loads(data), cache, step_done)
        else:
            _notebook(variant, json.loads(data), step_done)
    print(json.dumps({"first_step": first[0], "memory": max(memory)}))


def _own_memory() -> int:
    """Bytes that the system cannot take back: not those of files, a cache on disk among them."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
