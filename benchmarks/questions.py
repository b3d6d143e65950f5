"""Questions to finished networks, beyond their test films, by one list.

A question is a module here with

    is_asked(run)      tells if a run's network was asked already
    ask(run, cache)    asks it, and keeps its answers in the run folder
    read(run)          reads these answers
    scores(answers)    gives numbers of them for the report's tables, by name; {} for none
"""

from importlib import import_module
from types import ModuleType
from typing import Any

from mmfusion.runs import Run

# The module -> the flag of `benchmarks.run` that it takes; "" for what is always asked. A line here and a file with
# such functions make a new one.
QUESTIONS = {"probe": "", "missing": "missing"}


def questions(flags: object) -> list[ModuleType]:
    """Gives the modules of what is asked under these flags."""
    return [_module(name) for name, flag in QUESTIONS.items() if not flag or getattr(flags, flag)]


def read_answers(run: Run) -> tuple[dict[str, Any], dict[str, float | None]]:
    """Reads what a finished network has answered: by question, and all numbers of it by name."""
    answers = {name: _module(name).read(run) for name in QUESTIONS}
    numbers = {key: value for name, said in answers.items() for key, value in _module(name).scores(said).items()}
    return answers, numbers


def _module(name: str) -> ModuleType:
    return import_module(f"benchmarks.{name}")
