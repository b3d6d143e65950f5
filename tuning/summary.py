"""Summary of a search: `trials.csv` on the way, then `best.toml`, `summary.md` and figures."""

import shlex
from pathlib import Path

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
from tuning.records import START, Trial


def table_of(search, ended: list[Trial]) -> pd.DataFrame:
    """Gives the trials that have ended: a row each, by number, with the columns of `trials.csv`.

    Args:
        search: a `tuning.search.Search`.
        ended: its trials that have an outcome.
    """
    names = [*search.names, *([EPOCHS] if search.tuner == "hyperband" else [])]
    rows = {}
    for trial in ended:
        outcome = trial.outcome
        assert outcome is not None  # it has ended
        rows[trial.number] = [
            trial.name,
            "failed" if outcome.score is None else "completed",
            *(outcome.score, outcome.seconds, outcome.epochs, outcome.parameters),
            *(spaces.decode(trial.values.get(name, "")) for name in names),
            outcome.reason,
        ]
    head = ["trial", "status", search.objective, "seconds", "epochs", "parameters", *names, "reason"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=head, dtype=object)


def write_trials(trials: pd.DataFrame, out: Path) -> None:
    """Writes `trials.csv`, a line a trial."""
    safe = trials.assign(reason=trials["reason"].map(inert))
    write_atomically(out / "trials.csv", safe.to_csv(index=False, lineterminator="\n"))


def best(trials: pd.DataFrame, search) -> dict | None:
    """The row of the trial with the best score; the first of equals; None when all failed."""
    falling = OBJECTIVES[search.objective] == "max"
    scored = trials.dropna(subset=search.objective)
    ordered = scored.sort_values(search.objective, ascending=not falling, kind="stable")
    return next(iter(ordered.to_dict("records")), None)


def line_of(trial: Trial, trials: pd.DataFrame, search, most: int | None) -> str:
    """Says what a trial gave, and what the best was.

    Args:
        trial: the last that has ended.
        trials: of `table_of`.
        search: a `tuning.search.Search`.
        most: how many there are to be, besides the starting configuration; None: not known beforehand.
    """
    row, winner = trials.loc[trial.number], best(trials, search)
    of_all = "" if most is None else f" of {most}"
    what = "start" if trial.number == START else f"trial {trial.number}{of_all}"
    if winner is None or row["status"] == "failed":
        return f"{what}: failed: {row['reason']}"
    score = search.objective
    return f"{what}: {row[score]:.4f} in {row['seconds']:.0f} s; best {winner[score]:.4f} ({winner['trial']})"


def write(search, ended: list[Trial], out: Path) -> str:
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
    named = {"importance": weights, "value_table": _value_table, "reason_table": _reason_table}
    write_atomically(out / "summary.md", _render("summary.md", search, trials, **named))
    return _render("terminal.txt", search, trials, out=out, of_films=_flags_of_films(search))


def best_toml(search, trials: pd.DataFrame) -> str:
    """A config file with what the best trial has otherwise than the recipe."""
    winner, config = best(trials, search), search.start[search.variant]
    assert winner is not None
    configs = search.start if winner["trial"] == "start" else spaces.configure(search.start, winner)
    settings = tomli_w.dumps(differing(configs))
    return _render("best.txt", search, trials, settings=settings, epochs=config.training.epochs)


def _render(template: str, search, trials: pd.DataFrame, **values) -> str:
    rows, config = trials.to_dict("records"), search.start[search.variant]
    return render(
        "tuning",
        template,
        search=search,
        parts=config.parts,
        of_recipe="" if config.recipe == "default" else f" --recipe {config.recipe}",
        trials=rows,
        start=rows[START],
        best=best(trials, search),
        failed=[row for row in rows if row["status"] == "failed"],
        trial_table=_trial_table,
        **values,
    )


def _flags_of_films(search) -> str:
    """The films and the seed that the search had, which are not in its file."""
    config = search.start[search.variant]
    words = [*words_of_films(config), "--seed", str(config.seed)]
    if config.split_seed != config.seed:
        words += ["--split-seed", str(config.split_seed)]
    return shlex.join(words)


def _trial_table(search, rows: list[dict]) -> str:
    lines = [
        [
            row["trial"],
            number(row[search.objective], ".4f"),
            f"{row['seconds']:.0f}",
            str(row["epochs"]),
            number(row["parameters"], ","),
        ]
        for row in rows
    ]
    return markdown(["trial", search.objective, "seconds", "epochs", "parameters"], lines)


def _value_table(search, start: dict, best: dict) -> str:
    head = ["hyperparameter", "start", f"trial {best['trial']}"]
    return markdown(head, [[name, str(start[name]), str(best[name])] for name in search.names])


def _reason_table(failed: list[dict]) -> str:
    return markdown(["trial", "reason"], [[row["trial"], row["reason"]] for row in failed])
