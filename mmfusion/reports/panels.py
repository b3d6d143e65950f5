"""Pictures of single films: the poster, the overview, the true genres and what each model says."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmfusion.evaluation.metrics import film_losses
from mmfusion.reports.figures import drawn

_COLUMNS = 2
_NO_BREAK = "\u00a0"  # space
_LINE = 74  # characters of one
_LINES = 5  # of the overview, at the most
_WIDTH, _HEAD = 6.0, 0.4  # inches: of a film with its text, and of the title
_POSTER_WIDTH, _POSTER_HEIGHT = 1.1, 1.55  # inches, at the most


@dataclass(frozen=True)
class Film:
    """One film as a panel shows it."""

    title: str
    poster: np.ndarray | None  # uint8 (H, W, 3)
    overview: str
    genres: tuple[str, ...]
    top: Mapping[str, Sequence[tuple[str, float]]]  # by model, its most probable genres


def choose_films(
    ids: Sequence[str], y_true: np.ndarray, y_prob: np.ndarray, number: int = 6
) -> tuple[list[str], list[str]]:
    """The films with the least and those with the greatest cross-entropy.

    Args:
        ids: N film ids.
        y_true: (N, G) multi-hot.
        y_prob: (N, G) probabilities.
        number: of films on either side; fewer when there are not so many.

    Returns:
        Ids of well classified films, best first, and of badly classified ones, worst first.
    """
    order: list[int] = np.argsort(film_losses(y_true, y_prob), kind="stable").tolist()
    number = min(number, len(order) // 2)
    return [ids[i] for i in order[:number]], [ids[i] for i in order[::-1][:number]]


def top_genres(genres: Sequence[str], y_prob: np.ndarray, number: int = 3) -> list[tuple[str, float]]:
    """The most probable genres of one film, (G,), with their probabilities."""
    order: list[int] = np.argsort(-np.asarray(y_prob), kind="stable")[:number].tolist()
    return [(genres[i], float(y_prob[i])) for i in order]


def draw_panel(title: str, films: Sequence[Film], *paths: Path) -> None:
    """Writes one picture of these films, two side by side; a right genre has a tick.

    Args:
        title: above them.
        films: as they shall be shown.
        paths: the files to write, each in the format that its ending names.
    """
    lines = max(len(_describe(film).splitlines()) for film in films)
    height = max(_POSTER_HEIGHT, 0.165 * lines) + 0.2  # inches a film
    rows = -(-len(films) // _COLUMNS)
    with drawn((_COLUMNS * _WIDTH, rows * height + _HEAD), *paths, layout=None) as page:
        page_width, page_height = page.get_size_inches()
        page.text(0.1 / page_width, 1 - 0.1 / page_height, title, va="top", fontsize=12, fontweight="bold")
        for number, film in enumerate(films):
            row, column = divmod(number, _COLUMNS)
            left, top = column * _WIDTH + 0.1, page_height - _HEAD - row * height  # inches
            corner = left / page_width, (top - _POSTER_HEIGHT) / page_height
            size = _POSTER_WIDTH / page_width, _POSTER_HEIGHT / page_height
            axis = page.add_axes((*corner, *size), anchor="NE")
            if film.poster is None:
                axis.set_xticks([])
                axis.set_yticks([])
                axis.text(0.5, 0.5, "no poster", ha="center", va="center", fontsize=8, color="0.4")
            else:
                axis.axis("off")
                axis.imshow(film.poster)
            x, y = (left + _POSTER_WIDTH + 0.1) / page_width, top / page_height
            page.text(x, y, _describe(film), va="top", fontsize=8, linespacing=1.25, parse_math=False)


def _describe(film: Film) -> str:
    overview = textwrap.wrap(film.overview, _LINE, max_lines=_LINES, placeholder=" …")
    lines = [film.title, *(overview or ["(no overview)"]), "", f"true: {', '.join(film.genres) or 'none'}"]
    for model, top in film.top.items():
        said = (f"{genre} {p:.2f}{' ✓' if genre in film.genres else ''}" for genre, p in top)
        said = (one.replace(" ", _NO_BREAK) for one in said)  # a genre, its probability and its tick stay together
        lines += textwrap.wrap(f"{model}: {', '.join(said)}", _LINE, subsequent_indent="    ")
    return "\n".join(lines)
