"""TensorFlow without the notices that it prints while it is imported."""

import logging
import os
import sys


def import_tensorflow() -> None:
    """Imports TensorFlow, Keras on top of it, and tensorflow-datasets, quietly.

    A command calls this once it knows that there is work for them: it takes seconds.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
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
