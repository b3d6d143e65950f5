"""The genres of MM-IMDb, and those of films in its form that have others."""

from collections import Counter
from collections.abc import Collection, Mapping

from mmfusion.data.film_table.genres import check_name
from mmfusion.errors import UserError
from mmfusion.schema import LONGEST_GENRE

# The 23 most frequent genres of the 25,959 films, as in the paper's table 3; News, Adult, Talk-Show
# and Reality-TV are left out there too.
GENRES = tuple(
    "Drama Comedy Romance Thriller Crime Action Adventure Horror Documentary Mystery Sci-Fi Fantasy "
    "Family Biography War History Music Animation Musical Western Sport Short Film-Noir".split()
)
_LISTED = 20  # genres named in one message
_MOST = 1000  # genres


def count_genres(films: Collection[Collection[str]]) -> Counter[str]:
    """Counts the films of each genre; case makes no other genre of it.

    Args:
        films: genres of each film, as they are written.

    Returns:
        By genre, as it is written among the 23, or else in most films.
    """
    written = Counter(genre for genres in films for genre in set(genres))
    name_of = {genre.casefold(): genre for genre in sorted(written, key=lambda genre: (written[genre], genre))}
    name_of |= {genre.casefold(): genre for genre in GENRES}
    return Counter(name for genres in films for name in {name_of[genre.casefold()] for genre in genres})


def all_genres(counts: Mapping[str, int], where: str) -> tuple[str, ...]:
    """Those of the 23 that films have, in their order, then the others by name.

    Raises:
        UserError: there is none, there are too many, or one has a name that cannot be shown.
    """
    if not counts:
        raise UserError(f"{where}: no film has a genre")
    if len(counts) > _MOST:
        raise UserError(f"{where}: {len(counts):,} different genres, more than {_MOST:,}; leave out --all-genres")
    for genre in counts:
        check_name(genre, where)
    return tuple(genre for genre in GENRES if genre in counts) + tuple(sorted(counts.keys() - set(GENRES)))


def say_left_out(counts: Mapping[str, int], kept: Collection[str], where: str) -> tuple[str, ...]:
    """Gives the line that says which genres of the films are not among those that are kept; none if all are.

    Raises:
        UserError: no genre is kept.
    """
    if not counts:
        raise UserError(f"{where}: no film has a genre")
    left_out = sorted(counts.keys() - set(kept), key=lambda genre: (-counts[genre], genre))
    named = [f"{_shown(genre)} {counts[genre]}" for genre in left_out[:_LISTED]]
    named += [f"and {len(left_out) - _LISTED} more"] if len(left_out) > _LISTED else []
    among = f"MM-IMDb's {len(GENRES)}"
    if len(left_out) == len(counts):
        raise UserError(
            f"{where}: no film has a genre that is among {among}, but {', '.join(named)}; --all-genres keeps all"
        )
    line = f"genres that are not among {among} are left out: {', '.join(named)} (--all-genres keeps all)"
    return (line,) if left_out else ()


def _shown(genre: str) -> str:
    """A name of which a terminal shows all that is in it."""
    return (genre if genre and genre.isprintable() else ascii(genre))[:LONGEST_GENRE]
