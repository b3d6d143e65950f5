"""The machine and the libraries that a run is trained with."""

import contextlib
import os
import platform
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import mmfusion


def machine() -> dict:
    """The facts that decide every byte of a run, beside its configuration and films."""
    return {
        "versions": {
            "mmfusion": mmfusion.__version__,
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
        "threads": _threads(),
        "processor": _processor(),
    }


def _threads() -> int:
    """Counts the threads that TensorFlow takes for one operation."""
    if chosen := tf.config.threading.get_intra_op_parallelism_threads():
        return chosen
    told = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if told.isdigit() and int(told):
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    """The processor's name, as well as the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
