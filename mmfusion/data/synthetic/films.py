"""Draws a poster and writes an overview for genres whose cues are known exactly."""

import io

import numpy as np
from PIL import Image, ImageDraw

GENRES = ("poster_1", "poster_2", "overview_1", "overview_2", "both_1", "both_2", "xor_1", "xor_2")

# A cue is shown in the poster, told in the overview, or both. A genre is a function of cues:
# poster_k = poster cue k; overview_k = overview cue k; both_k = one cue shown and told;
# xor_k = (cue shown) exclusive-or (another cue told), so neither modality alone knows anything of it.
_POSTER_CUES = ("poster_1", "poster_2", "both_1", "both_2", "xor_1", "xor_2")
_OVERVIEW_WORDS = {
    "overview_1": ("detective", "inspector", "sleuth", "investigator"),
    "overview_2": ("spaceship", "rocket", "satellite", "starship"),
    "both_1": ("ghost", "spectre", "phantom", "haunting"),
    "both_2": ("wedding", "bride", "honeymoon", "fiancee"),
    "xor_1": ("island", "beach", "lagoon", "reef"),
    "xor_2": ("violin", "piano", "orchestra", "melody"),
}
_PEOPLE = ("teacher", "farmer", "painter", "student", "doctor", "sailor", "widow", "baker")
_MOODS = ("lonely", "stubborn", "young", "tired", "clever", "restless", "honest", "famous")
_DEEDS = ("returns home to face", "cannot forget", "must choose between family and", "runs away from")
_MATTERS = ("an old secret", "a lost letter", "the past", "a promise", "a long winter", "a rival")
_CLAUSES = ("with a {}", "and finds a {}", "near the {}", "because of one {}", "before the {} is gone")

_WIDTH, _HEIGHT = 80, 120  # pixels; each of six cells of 40x40 can hold one shape


def make_film(seed: int, number: int) -> tuple[bytes, str, list[str]]:
    """One film, a function of (seed, number) alone.

    Returns:
        The poster as a JPEG, the overview, and the names of its genres.
    """
    rng = np.random.default_rng([seed, number])
    cues = {name: bool(rng.random() < 0.4) for name in GENRES if not name.startswith("xor")}
    genres = [name for name, present in cues.items() if present]
    shown, told = dict(cues), dict(cues)
    for name in ("xor_1", "xor_2"):
        shown[name], told[name] = bool(rng.random() < 0.5), bool(rng.random() < 0.5)
        if shown[name] != told[name]:
            genres.append(name)
    poster = _draw_poster(rng, [cue for cue in _POSTER_CUES if shown[cue]])
    overview = _write_overview(rng, [cue for cue in _OVERVIEW_WORDS if told[cue]])
    return poster, overview, genres


def _draw_poster(rng: np.random.Generator, cues: list[str]) -> bytes:
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
            draw.rectangle([left, int(y - 5), right, int(y + 5)], fill=(30, 200, 60))
        elif cue == "xor_1":
            draw.ellipse(box, outline=(255, 255, 255), width=7)
        elif cue == "xor_2":
            draw.line([left, top, right, bottom], fill=(0, 0, 0), width=8)
            draw.line([left, bottom, right, top], fill=(0, 0, 0), width=8)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return file.getvalue()


def _write_overview(rng: np.random.Generator, cues: list[str]) -> str:
    words = [rng.choice(_MOODS), rng.choice(_PEOPLE), rng.choice(_DEEDS), rng.choice(_MATTERS)]
    for cue in rng.permutation(cues):
        words.append(rng.choice(_CLAUSES).format(rng.choice(_OVERVIEW_WORDS[cue])))
    return f"A {' '.join(map(str, words))}."
