"""What must be settled before the large libraries are imported: where they may write, and that quietly."""

import logging
import os
import sys
from pathlib import Path


def cache_folder(option: str | None = None) -> Path:
    """Where prepared films are kept: the option, else $MMFUSION_CACHE, else the user's cache folder.

    Keras and matplotlib keep small files of their own; from here on they do so in this folder too.
    """
    if chosen := option or os.environ.get("MMFUSION_CACHE"):
        folder = Path(chosen).expanduser().resolve()
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(base).expanduser().resolve() / "mmfusion"
    os.environ.setdefault("KERAS_HOME", str(folder / "keras"))
    os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
    return folder


def import_tensorflow() -> None:
    """Imports TensorFlow, Keras on top of it, and tensorflow-datasets, quietly.

    A command calls this once it knows that there is work for them: it takes seconds.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow leaves oneDNN's kernels off on processors with AVX2 alone, where they are faster as well.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # Some notices come before that level is read; only a closed stderr keeps them back.
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import tensorflow as tf
        import tensorflow_datasets  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    # TensorFlow warns of every new model that predicts, and tensorflow-datasets of every new cache.
    tf.get_logger().setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # each of ten tries to reach a host
