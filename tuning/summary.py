"""Summary of a search: `trials.csv` on the way, then `best.toml`, `summary.md` and figures."""

import shlex
from pathlib import Path
from typing import cast

import pandas as pd
import tomli_w

from mmfusion.config import differing
from mmfusion.config.flags import words_of_films
from mmfusion.errors import UserError
from mmfusion.files import inert, make_folder, write_atomically
from mmfusion.reports.tables import markdown, number
from mmfusion.templates import render
from tuning import OBJECTIVES, importance, pictures, spaces
from tuning.oracles import EPOCHS
from tuning.records import START, Outcome, Search, Trial


def table_of(search: Search, ended: list[Trial]) -> pd.DataFrame:
    """Gives the trials that have ended: a row each, by number, with the columns of `trials.csv`.

    Args:
        ended: its trials that have an outcome.
    """
    names = [*search.names, *([EPOCHS] if search.tuner == "hyperband" else [])]
    head = ["trial", "status", search.objective, "seconds", "epochs", "parameters", *names, "reason"]
    rows = {}
    for trial in ended:
        outcome = cast(Outcome, trial.outcome)  # it has ended
        rows[trial.number] = [
            "start" if trial.number == START else str(trial.number),
            "failed" if outcome.score is None else "completed",
            *(outcome.score, outcome.seconds, outcome.epochs, outcome.parameters),
            *(spaces.decode(trial.values.get(name, "")) for name in names),
            outcome.reason,
        ]
    return pd.DataFrame.from_dict(rows, orient="index", columns=head, dtype=object)


def write_trials(trials: pd.DataFrame, out: Path) -> None:
    """Writes `trials.csv`, a line a trial."""
    safe = trials.assign(reason=trials["reason"].map(inert))
    write_atomically(out / "trials.csv", safe.to_csv(index=False, lineterminator="\n"))


def best(trials: pd.DataFrame, search: Search) -> dict | None:
    """The row of the trial with the best score; the first of equals; None when all failed."""
    scores = trials[search.objective].dropna().astype(float)
    if scores.empty:
        return None
    return trials.loc[scores.idxmax() if OBJECTIVES[search.objective] == "max" else scores.idxmin()].to_dict()


def line_of(trial: Trial, trials: pd.DataFrame, search: Search, most: int | None) -> str:
    """Says what a trial gave, and what the best was.

    Args:
        trial: the last that has ended.
        trials: of `table_of`.
        most: how many there are to be, besides the starting configuration; None: not known beforehand.
    """
    row, winner, score = trials.loc[trial.number], best(trials, search), search.objective
    what = trial.name + (f" of {most}" if most and trial.number != START else "")
    if winner is None or row["status"] == "failed":
        return f"{what}: failed: {row['reason']}"
    return f"{what}: {row[score]:.4f} in {row['seconds']:.0f} s; best {winner[score]:.4f} ({winner['trial']})"


def write(search: Search, ended: list[Trial], out: Path) -> str:
    """Writes all that a search leaves, and gives what the terminal shows.

    Raises:
        UserError: every trial failed.
    """
    trials = table_of(search, ended)
    write_trials(trials, out)
    if trials.empty:
        raise UserError(f"no trial of the search in {out} has ended")
    if best(trials, search) is None:
        raise UserError(
            f"all {len(trials)} trials failed; the first one: {trials.at[START, 'reason']} "
            f"(trials.csv in {out} has all reasons, trials/trial_*/failure.txt where they arose)"
        )
    write_atomically(out / "best.toml", best_toml(search, trials))
    make_folder(out / "figures")
    pictures.draw_scores(trials, search, out / "figures" / "scores.png")
    pictures.draw_parallel(trials, search, out / "figures" / "parallel.png")
    weights = importance.estimate(trials, search)
    if weights.shares:
        pictures.draw_importance(weights, out / "figures" / "importance.png")
    write_atomically(out / "summary.md", _render("summary.md", search, trials, importance=weights))
    of_films = shlex.join(words_of_films(search.start[search.variant]))
    return _render("terminal.txt", search, trials, out=out, of_films=of_films)


def best_toml(search: Search, trials: pd.DataFrame) -> str:
    """A config file with what the best trial has otherwise than the recipe."""
    winner = cast(dict, best(trials, search))
    configs = search.start if winner["trial"] == "start" else spaces.configure(search.start, winner)
    return _render("best.txt", search, trials, settings=tomli_w.dumps(differing(configs)))


def _render(template: str, search: Search, trials: pd.DataFrame, **values) -> str:
    rows, config, winner = trials.to_dict("records"), search.start[search.variant], cast(dict, best(trials, search))
    start, failed = rows[START], [row for row in rows if row["status"] == "failed"]
    of_values = [[name, str(start[name]), str(winner[name])] for name in search.names]
    return render(
        "tuning",
        template,
        search=search,
        config=config,
        of_recipe="" if config.recipe == "default" else f" --recipe {config.recipe}",
        trials=rows,
        start=start,
        best=winner,
        failed=failed,
        trial_table=_trial_table,
        value_table=markdown(["hyperparameter", "start", f"trial {winner['trial']}"], of_values),
        reason_table=markdown(["trial", "reason"], [[row["trial"], row["reason"]] for row in failed]),
        **values,
    )


def _trial_table(search: Search, rows: list[dict]) -> str:
    forms = {search.objective: ".4f", "seconds": ".0f", "epochs": "", "parameters": ","}
    lines = [[row["trial"], *(number(row[name], form) for name, form in forms.items())] for row in rows]
    return markdown(["trial", *forms], lines)
