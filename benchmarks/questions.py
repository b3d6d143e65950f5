"""What finished networks are asked beyond their test films, by one list.

A question is a module here with

    is_asked(run)      tells if a run's network was asked already
    ask(run, cache)    asks it, and keeps its answers in the run folder
    scores(run)        gives numbers for the report's tables, by name; {} for none
"""

from importlib import import_module
from types import ModuleType

from mmfusion.runs import Run

# The module -> the flag of `benchmarks.run` that it takes; "" for what is always asked. A line here and a file with
# such functions make a new one.
QUESTIONS = {"probe": "", "missing": "missing"}


def questions(flags: object) -> list[ModuleType]:
    """Gives the modules of what is asked under these flags."""
    return [_module(name) for name, flag in QUESTIONS.items() if not flag or getattr(flags, flag)]


def answers(run: Run) -> dict[str, float]:
    """Gives all numbers that a finished network has answered, by name."""
    return {key: value for name in QUESTIONS for key, value in _module(name).scores(run).items()}


def _module(name: str) -> ModuleType:
    return import_module(f"benchmarks.{name}")
