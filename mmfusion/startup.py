"""Settles, before the large libraries are imported, where they may write, and that they are quiet."""

import contextlib
import importlib
import importlib.machinery
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def cache_folder(option: str | None = None) -> Path:
    """Gives the folder of prepared films: the option, else $MMFUSION_CACHE, else the user's cache folder.

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


def begin_command(cache_dir: str | None = None) -> Path:
    """Settles what a command must before it imports anything large, and gives its `cache_folder`.

    Its pictures go to files, so it draws with Agg whatever the environment says: a notebook names its own backend
    to every command that a cell starts, and where that is not installed matplotlib cannot be imported. From Python
    the backend is the user's.
    """
    os.environ["MPLBACKEND"] = "Agg"
    return cache_folder(cache_dir)


def import_tensorflow() -> None:
    """Imports TensorFlow, Keras on top of it, and tensorflow-datasets, with no word but of what goes wrong.

    A command calls this once it knows that there is work for them: it takes seconds.
    """
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow as tf
    import tensorflow_datasets  # noqa: F401

    # TensorFlow warns of every new model that predicts, and tensorflow-datasets of every new cache.
    tf.get_logger().setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # each of ten tries to reach a host


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's notices of how it was built from whoever imports this package before it."""
    if "tensorflow" in sys.modules:
        return  # it has said them
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow leaves oneDNN's kernels off on processors with AVX2 alone, where they are faster as well.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    if not any(isinstance(finder, _Finder) and finder.name == "tensorflow" for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder("tensorflow", held_back))


def register_with_keras() -> None:
    """Makes Keras know our classes as soon as it is there, so that it loads what was saved of them."""
    if "keras" in sys.modules:
        importlib.import_module("mmfusion.models")
    elif not any(isinstance(finder, _Finder) and finder.name == "keras" for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder("keras", _registering))


class _Finder:
    """Finds a package, once, as Python does, and has it loaded inside a context.

    Args:
        name: of the package.
        around: gives the context.
    """

    def __init__(self, name: str, around: Callable[[], contextlib.AbstractContextManager]):
        self.name = name
        self.around = around

    def find_spec(self, name: str, path=None, target=None):
        """Gives the package's spec, and of others none."""
        if name != self.name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def inside(module):
                sys.meta_path.remove(self)  # not before: somebody may only look whether there is one
                with self.around():
                    load(module)

            spec.loader.exec_module = inside
        return spec


@contextlib.contextmanager
def _registering() -> Iterator[None]:
    yield
    importlib.import_module("mmfusion.models")


# Some notices come before TensorFlow has read its level, straight to file descriptor 2.
@contextlib.contextmanager
def held_back(shown: bool = True) -> Iterator[None]:
    """Holds back what is written to file descriptor 2 in the block, and shows it if the block does not end well.

    TensorFlow can end the whole process, on a processor that it was not built for, say. Then a second process
    shows what it said: it waits for a word that all is well.

    Args:
        shown: whether an exception is such an end too; else whoever catches it says what it was.
    """
    if sys.stderr is not None:
        sys.stderr.flush()
    with contextlib.ExitStack() as open_files:
        try:
            real = os.dup(2)
            stderr = open_files.enter_context(os.fdopen(real, "wb", 0))
            said = open_files.enter_context(tempfile.TemporaryFile())
            watch = [sys.executable, "-I", "-S", "-c", _WATCH]
            # In a process group of its own: Ctrl-C is not for it.
            watcher = subprocess.Popen(
                watch, stdin=subprocess.PIPE, stdout=said, stderr=real, start_new_session=True
            )
        except (OSError, TypeError, ValueError):  # no standard error, no room, or a Python inside another program
            yield
            return
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            if shown:
                said.seek(0)
                stderr.write(said.read())
            raise
        finally:
            os.dup2(real, 2)
            watcher.communicate(b".")


# Reads its input's end where the first process has died, and a byte where it has not.
_WATCH = "import os; os.read(0, 1) or (os.lseek(1, 0, 0), os.write(2, os.read(1, 2**20)))"
