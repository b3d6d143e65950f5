"""Films that fusion repaired and films that it broke, of the first seed that both models have."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.analysis import better_unimodal
from benchmarks.collect import Result, Results, collect
from benchmarks.sheets import frame, write_frame
from mmfusion.evaluation.metrics import film_losses
from mmfusion.reports.panels import Film, draw_panel, top_genres
from mmfusion.reports.report import picture_of
from mmfusion.startup import import_tensorflow

FILMS = 6  # in a gallery


@dataclass(frozen=True)
class Gallery:
    """Some test films of one fusion and the models that are shown beside it."""

    name: str  # of the picture's file
    title: str
    fusion: Result
    films: tuple[str, ...]  # ids


def galleries(results: Results) -> Iterator[Gallery]:
    """For each fusion of networks the films whose cross-entropy it lowers most, and those it raises most."""
    for name, of_seed in results.items():
        first = of_seed[min(of_seed)]
        over = better_unimodal(results, name) if first.modalities > 1 and not first.is_baseline else None
        if over is None:
            continue
        fusion = of_seed[min(set(of_seed) & set(results[over]))]
        before = results[over][fusion.seed].test
        change = film_losses(fusion.test.y_true, fusion.test.y_prob) - film_losses(before.y_true, before.y_prob)
        order = np.argsort(change, kind="stable")
        for word, rows in (("repaired", order[:FILMS]), ("broke", order[::-1][:FILMS])):
            wrong_way = change[rows] >= 0 if word == "repaired" else change[rows] <= 0
            films = tuple(fusion.test.ids[row] for row in rows[~wrong_way])
            if films:
                title = f"Films that {name} {word}, against {over}"
                yield Gallery(f"{first.run.config.folder_name}-{word}", title, fusion, films)


def keep_films(folder: Path, cache: Path) -> None:
    """Puts posters and overviews of the galleries' films into the fusions' run folders, unless they are there.

    Args:
        folder: of the benchmark, its runs finished.
        cache: where prepared films are kept.
    """
    results, _ = collect(folder, keep_going=True)
    missing: dict[Path, tuple[Result, list[str]]] = {}
    for gallery in galleries(results):
        kept = gallery.fusion.run.films()
        _, films = missing.setdefault(gallery.fusion.run.folder, (gallery.fusion, []))
        films += [film for film in gallery.films if film not in kept]
    for fusion, films in missing.values():
        if not films:
            continue
        import_tensorflow()
        from mmfusion.data.films import films_of

        source, run = films_of(fusion.run.config, cache), fusion.run
        overview_of = dict(zip(films, source.overviews.take(source.rows(films)), strict=True))
        overviews = {film: text for film, (_, text) in run.films().items()}
        # A film whose poster cannot be read any more is kept without it: nobody should look for it again.
        run.write_films(source.encoded_posters(films), overviews | overview_of)


def draw_galleries(results: Results, folder: Path) -> dict[str, str]:
    """Draws them as PNG and SVG, with what was said in a CSV; captions by file name.

    A film that was not kept is left out.

    Args:
        results: the runs.
        folder: where to write.
    """
    captions = {}
    for gallery in galleries(results):
        seed, kept = gallery.fusion.seed, gallery.fusion.run.films()
        # All but the frequencies, which say the same of every film.
        beside = {n: of[seed] for n, of in results.items() if seed in of and of[seed].modalities}
        shown = [_film(gallery.fusion, film, kept[film], beside) for film in gallery.films if film in kept]
        if shown:
            draw_panel(gallery.title, shown, folder / f"{gallery.name}.png", folder / f"{gallery.name}.svg")
            rows = [
                (film.title, model, genre, probability, int(genre in film.genres))
                for film in shown
                for model, top in film.top.items()
                for genre, probability in top
            ]
            columns = ["film", "model", "genre", "probability", "true"]
            write_frame(frame(columns, rows), folder / f"{gallery.name}.csv")
            captions[f"{gallery.name}.png"] = f"{gallery.title} (seed {seed}). A tick marks a true genre."
    return captions


def _film(fusion: Result, film: str, kept: tuple, beside: dict[str, Result]) -> Film:
    read_poster, overview = kept
    row = fusion.test.ids.index(film)
    return Film(
        title=film,
        poster=picture_of(film, read_poster),
        overview=overview,
        genres=tuple(genre for genre, there in zip(fusion.genres, fusion.test.y_true[row]) if there),
        top={name: top_genres(result.genres, result.test.y_prob[row]) for name, result in beside.items()},
    )
