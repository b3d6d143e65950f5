"""Tokenizing by script: words where no spaces are, and capitals and accents beyond ASCII."""

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mmfusion.data.preprocessing import TextRules

# Scripts without spaces between words. Of few letters: Thai, Lao, Tibetan and Myanmar; Khmer; Tai and Buginese;
# Balinese; Kana; Javanese; more of Myanmar and Tai; Kana of half width.
_ALPHABETS = (
    (0x0E00, 0x109F), (0x1780, 0x17FF), (0x1950, 0x1AAF), (0x1B00, 0x1B7F), (0x3040, 0x30FF), (0x31F0, 0x31FF),
    (0xA980, 0xA9FF), (0xAA60, 0xAADF), (0xFF66, 0xFF9F),
)  # fmt: skip
# Of many characters: Chinese and Yi; with punctuation, and forms of full and half width.
_CHARACTERS = ((0x2E80, 0x312F), (0x31A0, 0x31FF), (0x3400, 0xA4CF), (0xF900, 0xFAFF), (0xFF00, 0xFFEF))
_RARE = "\U00020000-\U0003ffff"  # Chinese characters, and nothing else
# Marks on Latin, Greek and Cyrillic letters; those of other scripts, which may be vowels, are in their own blocks.
_ACCENTS = re.compile("[\u0300-\u036f]")
_LAST_FOLDED = 0x2FA1F  # the code points from here on are what they are

# The rules below were chosen on Django's messages in its 100 languages, and on the real films.
_SAMPLE = 10_000  # training films that are looked at, at the most
_RUN = 8  # letters without a space; a word that stands by itself has fewer, in any of these scripts
_IN_RUNS = 0.1  # of all letters; where most texts have spaces, the others are still read
_CAPITALS = 0.012  # of all letters; at most 0.006 in Latin scripts, at least 0.025 in Cyrillic, Greek and Armenian


class Patterns(NamedTuple):
    """Regular expressions for Python and TensorFlow alike, of the scripts without spaces between words."""

    character: str  # a group: a character with the marks on it
    letter: str  # the same, of a script with few of them
    between: str  # punctuation and spaces of their own


@functools.cache
def patterns() -> Patterns:
    """Gives the expressions by Unicode's categories."""

    def any_of(blocks: Iterable[tuple[int, int]], *categories: str, more: str = "") -> str:
        codes = sorted({code for first, last in blocks for code in range(first, last + 1)})
        found = [code for code in codes if unicodedata.category(chr(code)) in categories]
        firsts = [code for code, before in zip(found, [-2, *found]) if code != before + 1]
        lasts = [code for code, after in zip(found, [*found[1:], -2]) if code + 1 != after]
        return f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in zip(firsts, lasts))}{more}]"

    both = (*_ALPHABETS, *_CHARACTERS)
    letters, marks = ("Lo", "Lm", "Nl"), any_of(both, "Mn", "Mc", "Me")
    return Patterns(
        character=f"({any_of(both, *letters, more=_RARE)}{marks}*)",
        letter=f"{any_of(_ALPHABETS, *letters)}{marks}*",
        between=any_of(both, "Po", "Pd", "Ps", "Pe", "Zs"),
    )


def fold(character: str) -> str:
    """Gives a character without case, accent and width: words that differ in nothing else become one.

    Two letters that have one capital are one (final and other sigma, dotless and dotted i). Letters of scripts
    without case are only folded in width: a Hangul syllable, a vowel of Thai or Devanagari stays what it is.
    """
    if unicodedata.category(character) == "Lo" and unicodedata.east_asian_width(character) not in "HF":
        return character
    bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", character))
    return unicodedata.normalize("NFC", bare.upper().casefold())


@functools.cache
def folding() -> dict[int, str]:
    """What becomes of every character that `fold` changes, by its code point."""
    found = {code: fold(chr(code)) for code in range(_LAST_FOLDED + 1) if not 0xD800 <= code < 0xE000}
    return {code: folded for code, folded in found.items() if folded != chr(code)}


def folded(text: str) -> str:
    """Folds every character of a text."""
    return text.translate(folding())


def decide(texts: Sequence[str], split: str, fold: str) -> TextRules:
    """Decides how texts become words, where that is left to them.

    Args:
        texts: of the training films.
        split: "words", "characters" or "auto": characters where scripts without spaces are noticeable.
        fold: "on", "off" or "auto": on where capitals beyond ASCII are noticeable.
    """
    character = re.compile(patterns().character)
    letters = capitals = in_runs = 0
    for place in range(0, len(texts), max(1, len(texts) // _SAMPLE)):
        text = texts[place]
        letters += sum(map(str.isalpha, text))
        if text.isascii():
            continue
        capitals += sum(one.isupper() and not one.isascii() for one in text)
        runs = (len(character.findall(word)) for word in text.split() if len(word) >= _RUN)
        in_runs += sum(length for length in runs if length >= _RUN)
    found = {
        "split": "characters" if in_runs > _IN_RUNS * letters else "words",
        "fold": "on" if capitals > _CAPITALS * letters else "off",
    }
    asked = {"split": split, "fold": fold}
    return TextRules.model_validate({name: found[name] if asked[name] == "auto" else asked[name] for name in asked})
