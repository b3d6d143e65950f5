"""Summary of a search: a line a trial on the way, then `trials.csv`, `best.toml`, `summary.md` and figures."""

import csv
import dataclasses
import io
import shlex
from pathlib import Path

import numpy as np
import tomli_w

from mmfusion.config import DataConfig, of_recipe, override
from mmfusion.config.flags import words_of_films
from mmfusion.errors import UserError
from mmfusion.files import inert, make_folder, write_atomically
from mmfusion.reports.tables import UNDEFINED, markdown
from tuning import OBJECTIVES, importance, pictures, spaces
from tuning.oracles import EPOCHS
from tuning.records import START, Trial

# Settings that belong to a call and not to what a search found.
_OF_THE_CALL = {
    "": ("variant", "recipe", "seed", "split_seed"),
    "data": tuple(name for name in DataConfig.model_fields if name not in ("split", "batch_size")),
    "table": ("file",),
    "training": ("epochs",),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One trial that has ended; number 0 is the starting configuration."""

    number: int
    score: float | None  # None: it failed
    reason: str  # why it failed
    seconds: float
    epochs: int
    parameters: int | None
    values: dict[str, object]  # by hyperparameter

    @property
    def name(self) -> str:
        return "start" if self.number == START else str(self.number)


class Progress:
    """Says how far a search is, and keeps `trials.csv` up to date.

    Args:
        search: a `tuning.search.Search`.
        trials: its trials.
        out: its folder.
        clock: of its minutes.
        most: how many trials there are in all; None: not known beforehand.
        at_a_time: how many run at once.
    """

    def __init__(self, search, trials, out: Path, *, clock, most: int | None, at_a_time: int):
        self._search, self._trials, self._out = search, trials, out
        self._clock, self._most, self._at_a_time = clock, most, at_a_time

    def begin(self, films: int) -> None:
        """Says what begins, or goes on."""
        search, ended = self._search, len(self._trials.ended)
        went = f"; {ended} trials are finished" if ended else ""
        print(
            f"{search.variant}: {search.tuner} search of {len(search.names)} hyperparameters for the best "
            f"{search.objective} of {films} validation films, into {self._out}{went}",
            flush=True,
        )

    def ended(self, trial: Trial) -> None:
        """Says what a trial gave, what the best was, and how long it will take."""
        found = rows(self._search, self._trials.ended)
        write_trials(found, self._search, self._out)
        row = next(row for row in found if row.number == trial.number)
        of_all = "" if self._most is None else f" of {self._most - 1}"
        what = "start" if trial.number == START else f"trial {trial.number}{of_all}"
        winner = best(found, self._search)
        if row.score is None or winner is None:
            print(f"{what}: failed: {row.reason}", flush=True)
            return
        print(
            f"{what}: {row.score:.4f} in {row.seconds:.0f} s; best {winner.score:.4f} ({winner.name})"
            f"{self._left(found)}",
            flush=True,
        )

    def _left(self, found: list[Row]) -> str:
        lefts = [] if self._clock.left is None else [self._clock.left]
        if self._most is not None:
            lefts.append((self._most - len(found)) * np.mean([row.seconds for row in found]) / self._at_a_time)
        seconds = min(lefts, default=0)
        return f"; about {max(1, round(seconds / 60))} min left" if seconds else ""


def rows(search, ended: list[Trial]) -> list[Row]:
    """The trials that have ended, by number, as they are told."""
    found = []
    for trial in ended:
        outcome = trial.outcome
        assert outcome is not None  # it has ended
        values: dict[str, object] = {
            name: spaces.decode(value)
            for name, value in trial.values.items()
            if name in search.names or name == EPOCHS
        }
        found.append(
            Row(
                number=trial.number,
                score=outcome.score,
                reason=(outcome.reason.strip().splitlines() or [""])[-1],
                seconds=outcome.seconds,
                epochs=outcome.epochs,
                parameters=outcome.parameters,
                values=values,
            )
        )
    return found


def best(found: list[Row], search) -> Row | None:
    """The trial with the best score; the first of equals; None when all failed."""
    sign = 1 if OBJECTIVES[search.objective] == "max" else -1
    scored = [(sign * row.score, row) for row in found if row.score is not None]
    return max(scored, key=lambda one: one[0])[1] if scored else None


def write_trials(found: list[Row], search, out: Path) -> None:
    """Writes `trials.csv`, a line a trial."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [*search.names, *([EPOCHS] if search.tuner == "hyperband" else [])]
    writer.writerow(["trial", "status", search.objective, "seconds", "epochs", "parameters", *names, "reason"])
    for row in found:
        status = "failed" if row.score is None else "completed"
        values = [row.values.get(name, "") for name in names]
        cells = [row.name, status, row.score, row.seconds, row.epochs, row.parameters, *values, row.reason]
        writer.writerow(map(inert, cells))
    write_atomically(out / "trials.csv", text.getvalue())


def write(search, ended: list[Trial], out: Path) -> str:
    """Writes all that a search leaves, and gives what the terminal shows.

    Raises:
        UserError: every trial failed.
    """
    found = rows(search, ended)
    write_trials(found, search, out)
    if not found:
        raise UserError(f"no trial of the search in {out} has ended")
    winner = best(found, search)
    if winner is None:
        raise UserError(
            f"all {len(found)} trials failed; the first one: {found[START].reason} (trials.csv in {out} has all "
            f"reasons, trials/trial_*/failure.txt where they arose)"
        )
    write_atomically(out / "best.toml", best_toml(search, winner, len(found) - 1))
    make_folder(out / "figures")
    pictures.draw_scores(found, search, out / "figures" / "scores.png")
    pictures.draw_parallel(found, search, out / "figures" / "parallel.png")
    weights = importance.estimate(found, search)
    if weights.shares:
        pictures.draw_importance(weights, out / "figures" / "importance.png")
    text = _summary(search, found, winner, weights)
    write_atomically(out / "summary.md", text)
    table = _table(search, _shown(found, winner))
    return (
        f"\n{table}\n\n{_verdict(search, found, winner)}\n"
        f"\nThe whole is in {out / 'summary.md'}. To train with what was found:\n"
        f"  python -m mmfusion.train --variant {search.variant}{_recipe_flag(search)} --config {out / 'best.toml'}"
        f"{_film_flags(search)}"
    )


def best_toml(search, winner: Row, trials: int) -> str:
    """A config file with what the best trial has otherwise than the recipe."""
    configs = search.start if winner.number == START else spaces.configure(search.start, winner.values)
    recipe = search.start[search.variant].recipe
    differing = _differing(configs[search.variant], of_recipe(search.variant, recipe))
    of_parts = {}
    for part in search.start[search.variant].parts:
        # What stands above all holds for the parts too, so they are compared with that.
        above = {
            f"{section}.{key}": value
            for section, of in differing.items()
            if isinstance(of, dict)
            for key, value in of.items()
        }
        given = override(of_recipe(part, recipe), above, where="best.toml")
        of_part = _differing(configs[part], given)
        of_parts |= {part: of_part} if of_part else {}
    if of_parts:
        differing["variants"] = of_parts
    cap = configs[search.variant].training.epochs
    name = "the start" if winner.number == START else f"trial {winner.name}"
    head = (
        f"# {search.variant}: {name}, the best of {trials} trials and the starting configuration, by\n"
        f"# {search.tuner} search with seed {search.seed}: {search.objective} {winner.score:.4f} on validation\n"
        f"# films, after at most {cap} epochs.\n#\n"
        f"#   python -m mmfusion.train --variant {search.variant}{_recipe_flag(search)} --config FILE\n"
    )
    return head + ("\n" + tomli_w.dumps(differing) if differing else "# Nothing differs from the recipe.\n")


def _recipe_flag(search) -> str:
    recipe = search.start[search.variant].recipe
    return "" if recipe == "default" else f" --recipe {recipe}"


def _film_flags(search) -> str:
    """The films and the seed that the search had, which are not in its file."""
    config = search.start[search.variant]
    words = [*words_of_films(config), "--seed", str(config.seed)]
    if config.split_seed != config.seed:
        words += ["--split-seed", str(config.split_seed)]
    return f" {shlex.join(words)}"


def _differing(config, recipe) -> dict:
    ours, theirs = config.to_dict(), recipe.to_dict()
    found = {}
    for section, values in ours.items():
        if section in _OF_THE_CALL[""]:
            continue
        if not isinstance(values, dict):
            found |= {section: values} if values != theirs[section] else {}
            continue
        changed = {
            key: value
            for key, value in values.items()
            if value != theirs[section][key] and key not in _OF_THE_CALL.get(section, ())
        }
        if changed:
            found[section] = changed
    return found


def _shown(found: list[Row], winner: Row) -> list[Row]:
    """The starting configuration and the best trial."""
    return [row for row in found if row.number == START or row is winner]


def _table(search, found: list[Row]) -> str:
    head = ["trial", search.objective, "seconds", "epochs", "parameters"]
    return markdown(
        head,
        [
            [
                row.name,
                UNDEFINED if row.score is None else f"{row.score:.4f}",
                f"{row.seconds:.0f}",
                str(row.epochs),
                UNDEFINED if row.parameters is None else f"{row.parameters:,}",
            ]
            for row in found
        ],
    )


def _verdict(search, found: list[Row], winner: Row) -> str:
    start = found[START]
    failed = sum(row.score is None for row in found)
    said = f" {failed} of {len(found)} trials failed." if failed else ""
    if winner.number == START:
        return f"No trial was better than the starting configuration.{said}"
    if start.score is None:
        return f"The starting configuration itself failed.{said}"
    assert winner.score is not None  # it is the best of those that have one
    gain = winner.score - start.score
    return (
        f"Trial {winner.name} is {abs(gain):.4f} {'above' if gain > 0 else 'below'} the starting configuration in "
        f"{search.objective}. That is the best of {len(found)} tries on the same films and flatters it; "
        f"other seeds and the test films will say what is left of it.{said}"
    )


def _summary(search, found: list[Row], winner: Row, weights: importance.Importance) -> str:
    parts = [
        f"# {search.variant}: {search.tuner} search",
        f"Seed {search.seed}, {len(found) - 1} trials and the starting configuration (`start`), "
        f"{sum(row.seconds for row in found) / 60:.1f} minutes of training. Scores are {search.objective} of the "
        "validation films"
        + (
            ", late fusion's with a combiner fitted on other folds of them"
            * bool(search.start[search.variant].parts)
        )
        + ". No model was shown a test film.",
        _verdict(search, found, winner),
        _table(search, found),
        "![Score of each trial](figures/scores.png)",
        "![Hyperparameters of each trial](figures/parallel.png)",
        "## Which hyperparameter mattered",
        weights.sentence,
    ]
    if weights.shares:
        parts.append("![Importance](figures/importance.png)")
    changed = [
        [name, str(found[START].values[name]), str(value)]
        for name, value in winner.values.items()
        if name in search.names
    ]
    parts += ["## The best trial's values", markdown(["hyperparameter", "start", f"trial {winner.name}"], changed)]
    failures = [row for row in found if row.score is None]
    if failures:
        parts += ["## Failed trials", markdown(["trial", "reason"], [[row.name, row.reason] for row in failures])]
    return "\n\n".join(parts) + "\n"
