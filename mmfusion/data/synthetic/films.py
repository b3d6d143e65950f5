"""Draws a poster and writes an overview for genres whose cues are known exactly."""

import io

import numpy as np
from PIL import Image, ImageDraw

GENRES = ("poster_1", "poster_2", "overview_1", "overview_2", "both_1", "both_2", "xor_1", "xor_2")

TABLE_GENRES = ("table_1", "table_2", "xor_all")  # of films that have a table
COLUMNS = ("Year", "Country", "Minutes")
# A cue is a shape in the poster, a word in the overview, or both, and is there in half of the films,
# independently of the others. poster_k and overview_k are cues of one modality, both_k is one cue in
# both, and xor_k = poster_k exclusive-or overview_k: either modality alone says nothing about it.
# In a table, table_1 is a late year, table_2 a northern country, and the minutes are nobody's cue; xor_all =
# poster_1 exclusive-or overview_1 exclusive-or table_1: any two modalities say nothing about it.
_POSTER_CUES = ("poster_1", "poster_2", "both_1", "both_2")
_OVERVIEW_WORDS = {
    "overview_1": ("detective", "inspector", "sleuth", "investigator"),
    "overview_2": ("spaceship", "rocket", "satellite", "starship"),
    "both_1": ("ghost", "spectre", "phantom", "haunting"),
    "both_2": ("wedding", "bride", "honeymoon", "fiancee"),
}
_COUNTRIES = {True: ("Norway", "Iceland", "Finland"), False: ("Kenya", "Peru", "Nepal", "Samoa")}
_PEOPLE = ("teacher", "farmer", "painter", "student", "doctor", "sailor", "widow", "baker")
_MOODS = ("lonely", "stubborn", "young", "tired", "clever", "restless", "honest", "famous")
_DEEDS = ("returns home to face", "cannot forget", "must choose between family and", "runs away from")
_MATTERS = ("an old secret", "a lost letter", "the past", "a promise", "a long winter", "a rival")
_CLAUSES = ("with a {} and a {}", "finds the {} of a {}", "near one {} or {}", "before the {} and the {} go")

_WIDTH, _HEIGHT = 80, 120  # pixels; in cells of 40x40 pixels, each with at most one shape


def write_film(seed: int, number: int, genres: tuple[str, ...] = GENRES) -> tuple[str, tuple[str, ...]]:
    """The overview and the names of the genres of one film, a function of (seed, number) alone."""
    there = _cues(seed, number)
    rng = np.random.default_rng([seed, number, 1])
    words = [rng.choice(_MOODS), rng.choice(_PEOPLE), rng.choice(_DEEDS), rng.choice(_MATTERS)]
    for cue in rng.permutation([cue for cue in _OVERVIEW_WORDS if there[cue]]):
        told = rng.choice(_OVERVIEW_WORDS[cue], 2, replace=False)
        words.append(rng.choice(_CLAUSES).format(*told))
    return f"A {' '.join(map(str, words))}.", tuple(genre for genre in genres if there[genre])


def draw_poster(seed: int, number: int) -> bytes:
    """The poster of the same film, as a JPEG."""
    there = _cues(seed, number)
    cues = [cue for cue in _POSTER_CUES if there[cue]]
    rng = np.random.default_rng([seed, number, 2])
    background = rng.integers(70, 150, 3)
    noise = rng.normal(0, 12, (_HEIGHT, _WIDTH, 1))
    picture = Image.fromarray(np.clip(background + noise, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    for cue, cell in zip(cues, rng.permutation(6)[: len(cues)], strict=True):
        radius = rng.integers(13, 18)
        x = 20 + 40 * (cell % 2) + rng.integers(-2, 3)
        y = 20 + 40 * (cell // 2) + rng.integers(-2, 3)
        box = [int(x - radius), int(y - radius), int(x + radius), int(y + radius)]
        left, top, right, bottom = box
        middle = int(x)
        if cue == "poster_1":
            draw.ellipse(box, fill=(220, 30, 30))
        elif cue == "poster_2":
            draw.rectangle(box, fill=(30, 60, 220))
        elif cue == "both_1":
            draw.polygon([(left, bottom), (right, bottom), (middle, top)], fill=(240, 220, 40))
        elif cue == "both_2":
            draw.rectangle([left, int(y - 6), right, int(y + 6)], fill=(30, 200, 60))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def fill_row(seed: int, number: int) -> tuple[str, ...]:
    """The cells of the same film, one for each of `COLUMNS`."""
    there = _cues(seed, number)
    rng = np.random.default_rng([seed, number, 4])
    year = rng.integers(1990, 2020) if there["table_1"] else rng.integers(1950, 1980)
    return str(year), str(rng.choice(_COUNTRIES[there["table_2"]])), str(rng.integers(70, 180))


def _cues(seed: int, number: int) -> dict[str, bool]:
    rng = np.random.default_rng([seed, number, 0])
    there = {name: bool(rng.random() < 0.5) for name in GENRES if not name.startswith("xor")}
    for k in (1, 2):
        there[f"xor_{k}"] = there[f"poster_{k}"] != there[f"overview_{k}"]
    rng = np.random.default_rng([seed, number, 3])
    there |= {name: bool(rng.random() < 0.5) for name in ("table_1", "table_2")}
    there["xor_all"] = there["xor_1"] != there["table_1"]
    return there
