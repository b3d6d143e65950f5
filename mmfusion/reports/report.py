"""The report of one finished run, or of several side by side."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mmfusion.config import FINE_TUNED, VARIANTS
from mmfusion.data.posters import BadPoster, open_poster
from mmfusion.errors import UserError
from mmfusion.evaluation.comparison import DRAWS, PERMUTATIONS, Comparison
from mmfusion.evaluation.scoring import Scored, encoders_of, label_of, score
from mmfusion.files import make_folder, write_atomically
from mmfusion.reports import figures, panels, tables
from mmfusion.runs import Run
from mmfusion.schema import PLURAL
from mmfusion.templates import render

GAINS = (
    f"95% intervals are of {DRAWS:,} bootstrap draws of these films, the same for both models; p of paired "
    f"permutation tests ({PERMUTATIONS:,}). They know nothing of another training of the same model."
)


def encoder_sentence(run: Run) -> str:
    """Tells the encoder of each modality and where the modalities meet; "" for a baseline without encoders."""
    presets = run.facts.get("presets", {})
    trained = f" ({FINE_TUNED})" if run.config.fine_tuning.fine_tune else " (frozen)"
    by = [f"{PLURAL[m]} by {encoder}{trained * (m in presets)}" for m, encoder in encoders_of(run).items()]
    said = [f"Encoders: {', '.join(by)}."] if by else []
    if (variant := VARIANTS.get(run.config.variant)) and variant.meet:
        said.append(f"The modalities meet {variant.meet}.")
    return " ".join(said)


def summary(scored: Sequence[Scored], gains: Sequence[Comparison] = ()) -> str:
    """Tables for the terminal: the overall one, gains, and by genre one run or several side by side."""
    report = scored[0].report
    reports = [one.report for one in scored]
    genres = tables.genre_table(report) if len(scored) == 1 else tables.comparison_table(reports)
    head = f"{report['dataset']}, {report['films']} {report['split']} films; F1 at thresholds tuned on validation"
    sentence = tables.undefined_sentence(report)
    shown = f"Micro-AP; {GAINS}\n\n{tables.gain_table(gains)}" if gains else ""
    parts = [head, _caution(report), tables.overall_table(reports), shown, genres, sentence]
    return "\n\n".join(part for part in parts if part)


def _caution(report: dict) -> str:
    if report["split"] != "validation":
        return ""
    return (
        "These films chose the epoch, the temperature, the thresholds and late fusion's combiner: "
        "their scores flatter every model."
    )


def finish(run: Run) -> Scored:
    """Writes what reports a trained run and its parts do not have yet.

    Raises:
        UserError: another process does so.
    """
    with run.locked():
        for one in (*run.parts, run):
            if not one.finished:  # a part that was trained apart has its report already
                write_report(one)
    return score(run, "test")


def write_report(run: Run) -> Scored:
    """Writes `report.json`, `report.md` and figures of the test films into the run's own folder."""
    scored = score(run, "test")
    _write([scored], run.folder)
    return scored


def write_comparison(
    scored: Sequence[Scored], folder: Path, kept: dict | None = None, gains: Sequence[Comparison] = ()
) -> None:
    """Writes the same for several runs, or for other films, into any folder that is not a run's own.

    Args:
        scored: as they shall stand side by side.
        folder: where to write.
        gains: of them, as `mmfusion.evaluation.scoring.gains` finds them.
        kept: by id the poster and overview of films to choose the panels from; without it, those that
            the runs keep.

    Raises:
        UserError: the folder is a run's, or cannot be made.
    """
    if Run(folder).config_file.exists():
        raise UserError(f"--out {folder} is a run's own folder; name another")
    make_folder(folder)
    _write(scored, folder, kept, gains)


def _write(
    scored: Sequence[Scored], folder: Path, kept: dict | None = None, gains: Sequence[Comparison] = ()
) -> None:
    pictures = folder / "figures"
    make_folder(pictures)
    if kept is None:
        kept = {film: shown for one in scored for film, shown in one.run.films().items()}
    drawn = _draw(scored, pictures, kept)
    write_atomically(folder / "report.md", _markdown(scored, drawn, gains))
    reports = [s.report for s in scored]
    # Last of all: a run with a report.json is finished.
    content = {"runs": reports, "gains": list(map(_gain, gains))} if len(reports) > 1 else reports[0]
    write_atomically(folder / "report.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _gain(one: Comparison) -> dict:
    numbers = {name: getattr(one.micro, name) for name in ("gain", "low", "high", "p")}
    defined = {name: None if tables.is_undefined(value) else value for name, value in numbers.items()}
    return {"model": one.name, "over": one.over, **defined, "verdict": one.micro.verdict}


def _draw(scored: Sequence[Scored], folder: Path, kept: dict) -> dict[str, str]:
    """Draws everything; returns what each picture shows, by file name."""
    drawn = {}
    histories = {}
    for one in scored:
        for run in [one.run, *one.run.parts]:
            name = one.report["name"] if run is one.run else f"{one.report['name']}, part {label_of(run)}"
            # A part that stands beside its late fusion was drawn already.
            if run.history and run.history not in histories.values():
                histories[name] = run.history
    if histories:
        figures.draw_curves(histories, folder / "curves.png")
        drawn["curves.png"] = "Training and validation curves; the grey line is the epoch that was kept."
    rows = [row for row in tables.by_frequency(scored[0].report["genres"]) if row["support"]]
    order = [row["genre"] for row in rows]
    aps = [{row["genre"]: row["ap"] for row in s.report["genres"]} for s in scored]
    figures.draw_genres(
        order,
        [row["support"] / scored[0].report["films"] for row in rows],
        {s.report["name"]: [ap[genre] for genre in order] for s, ap in zip(scored, aps)},
        folder / "genres.png",
    )
    drawn["genres.png"] = "Average precision by genre, the most frequent at the top."
    well, badly = choose_films(scored, kept)
    if well:
        for name, films in (("well", well), ("badly", badly)):
            draw_films(scored, films, kept, f"{name.capitalize()} classified films", folder / f"{name}.png")
            drawn[f"{name}.png"] = f"Films that were {name} classified; a tick marks a true genre."
    return drawn


def choose_films(scored: Sequence[Scored], among=None) -> tuple[list[str], list[str]]:
    """The films that the models on average classify well and badly.

    Args:
        scored: the models, on the same films.
        among: ids to choose from; without it all of them.
    """
    found = scored[0].predictions
    rows = [row for row, film in enumerate(found.ids) if among is None or film in among]
    mean = np.mean([s.predictions.y_prob[rows] for s in scored], axis=0)
    return panels.choose_films([found.ids[row] for row in rows], found.y_true[rows], mean)


def draw_films(
    scored: Sequence[Scored],
    films: Sequence[str],
    kept: dict,
    title: str,
    path: Path,
    known: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Draws the panel of some films, with the three most probable genres of each model.

    Args:
        scored: the models; their predictions hold these films.
        films: ids.
        kept: by id what reads the poster's file, None where there is none, and the overview.
        title: above the panel.
        path: the PNG to write.
        known: by run, the split that has each film, where it is another's film too; without it, by id.
    """
    genres = scored[0].genres
    known = known or {s.report["name"]: _split_of(s.run) for s in scored}
    shown = []
    for film in films:
        row = scored[0].predictions.ids.index(film)
        truth = scored[0].predictions.y_true[row]
        read_poster, overview = kept[film]
        top = {s.report["name"]: panels.top_genres(genres, s.predictions.y_prob[row]) for s in scored}
        shown.append(
            panels.Film(
                title=_title(scored, film, row, {name: of.get(film) for name, of in known.items()}),
                poster=picture_of(film, read_poster),
                overview=overview,
                genres=tuple(genre for genre, there in zip(genres, truth) if there),
                top=top,
            )
        )
    panels.draw_panel(title, shown, path)


def _title(scored: Sequence[Scored], film: str, row: int, splits: Mapping[str, str | None]) -> str:
    different = set(splits.values())
    if len(different) > 1:  # runs with splits of their own
        said = ", ".join(f"{split or 'unseen'} film of {name}" for name, split in splits.items())
        title = f"{film} ({said})"
    else:
        title = f"{film} ({split} film)" if (split := different.pop()) else film
    for one in scored:
        if one.gates is not None:
            gates = zip(one.run.facts["reads"], one.gates[row], strict=True)
            title += f", {one.report['name']}'s gates: {', '.join(f'{name} {gate:.2f}' for name, gate in gates)}"
    return title


def picture_of(film: str, read_poster: Callable[[], bytes] | None) -> np.ndarray | None:
    """A poster to be drawn, as uint8 (H, W, 3); None where there is none.

    Raises:
        UserError: it cannot be read; it names the film.
    """
    if read_poster is None:
        return None
    try:
        return np.asarray(open_poster(read_poster()))
    except BadPoster as error:
        raise UserError(f"the poster of {film} cannot be drawn: {error}") from error


def _split_of(run: Run) -> dict[str, str]:
    return {film: split for split, films in run.split.items() for film in films}


def _markdown(scored: Sequence[Scored], drawn: dict[str, str], gains: Sequence[Comparison]) -> str:
    first = scored[0].report
    made = (
        tables.overall_table,
        tables.gain_table,
        tables.comparison_table,
        tables.average_table,
        tables.genre_table,
    )
    functions = {one.__name__: one for one in (*made, tables.undefined_sentence, encoder_sentence)}
    values = {"runs": scored, "first": first, "gains": gains, "about_gains": GAINS}
    values["source"] = scored[0].run.facts.get("source", ())
    return render("mmfusion", "report.md", **functions, **values, caution=_caution(first), drawn=drawn)
