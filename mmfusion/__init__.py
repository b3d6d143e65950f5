"""Film genres from posters and overviews: unimodal baselines and early, joint and late fusion.

From Python there are

    train, load, predict, evaluate    see `mmfusion.api`
    Config, UserError                 a run's configuration; what is wrong, in one line
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mmfusion.errors import UserError
from mmfusion.startup import quiet_tensorflow, register_with_keras

if TYPE_CHECKING:
    from mmfusion.api import TrainedRun, evaluate, load, predict, train
    from mmfusion.config import Config

__version__ = "0.1.0"
__all__ = ["Config", "TrainedRun", "UserError", "evaluate", "load", "predict", "train"]

_FOUND_IN = {"Config": "mmfusion.config", "TrainedRun": "mmfusion.api", "load": "mmfusion.api"}
_COMMANDS = ("evaluate", "predict", "train")  # their modules can be called, see `api.as_function`


def __getattr__(name: str):
    if name in _COMMANDS:
        return import_module(f"{__name__}.{name}")
    if name not in _FOUND_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FOUND_IN[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


quiet_tensorflow()
register_with_keras()
