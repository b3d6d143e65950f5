"""What the repository's documents show of commands and of Python, read out of them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
_MARK = re.compile(r"<!-- not run: (.+) -->")
_FIRST_OF_A_COMMAND = re.compile(r"(python[\d.]*|pip|pip-audit|pytest|git|cd|export|source|[A-Z_]+=.*|#!.*)$")
_FIRST_OF_PYTHON = ("import", "from")


def documents() -> list[str]:
    """Every document and every config file whose comments may show a command; the README first.

    Without what a command has written: RESULTS.md and the tables beside it.
    """
    found = [path.relative_to(REPOSITORY) for kind in ("*.md", "*.toml") for path in REPOSITORY.rglob(kind)]
    mine = [path for path in found if path.parts[0] in ("mmfusion", "benchmarks", "tuning") or len(path.parts) == 1]
    names = sorted(str(path) for path in mine if path.parts[:2] != ("benchmarks", "results"))
    return sorted(names, key=lambda name: name != "README.md")


@dataclass(frozen=True)
class Shown:
    """One command, or one block of Python, as a document shows it."""

    document: str
    line: int
    words: tuple[str, ...] = ()  # of a command, as a shell takes it apart
    code: str = ""  # of Python
    not_run: str = ""  # the document's reason, if it has one

    def __str__(self) -> str:
        return f"{self.document}:{self.line}: {shlex.join(self.words) or 'Python'}"


def shown(document: str, text: str) -> list[Shown]:
    """What a document shows, from top to bottom: in blocks, and `python -m ...` within its sentences.

    `<!-- not run: REASON -->` before a block says why it cannot be run. In a sentence, a command's name alone is no
    command, and one with `...` is not a whole one.
    """
    if document.endswith(".toml"):  # comments, as if they were Markdown
        text = "\n".join(f" {line[1:]}" if line.startswith("#") else "" for line in text.splitlines())
    found = []
    for line, block, reason in _blocks(text):
        first = block[0].split()[0]
        if first in _FIRST_OF_PYTHON or first.startswith('"""'):
            found.append(Shown(document, line, code="\n".join(block), not_run=reason))
        elif any(_FIRST_OF_A_COMMAND.match(row.split()[0]) for row in block if row.strip()):
            found += [Shown(document, number, words, not_run=reason) for number, words in _commands(line, block)]
    for match in re.finditer(r"`(python -m\s+[^`]+)`", text):
        words = tuple(match[1].split())
        if len(words) > 3 and "..." not in words:
            found.append(Shown(document, text.count("\n", 0, match.start()) + 1, words))
    return sorted(found, key=lambda one: one.line)


def flags(text: str) -> list[tuple[str, str]]:
    """Every flag that is shown after a command's name, run or not: (module, flag)."""
    lines = re.sub(r"\\\n", " ", text)
    calls = re.findall(r"python -m\s+(\w+\.\w+)([^`|&\n]*)", lines)
    return [(module, flag) for module, rest in calls for flag in re.findall(r"(?<![\w-])--[a-z-]+", rest)]


def _blocks(text: str) -> Iterator[tuple[int, list[str], str]]:
    """Fenced and indented blocks: number of the first line, lines without the indent, the mark's reason."""
    lines = text.splitlines()
    reason, number = "", 0
    while number < len(lines):
        line = lines[number]
        begin = number
        if line.startswith("```"):
            begin += 1
            number = next(i for i in range(begin, len(lines)) if lines[i].startswith("```"))
            yield begin + 1, lines[begin:number], reason
        elif line.startswith("    "):
            more = (i for i in range(begin, len(lines)) if lines[i].strip() and not lines[i].startswith("    "))
            number = next(more, len(lines)) - 1
            yield begin + 1, [row[4:] for row in lines[begin : number + 1]], reason
        if line.strip():
            mark = _MARK.fullmatch(line.strip())
            reason = mark[1] if mark else ""
        number += 1


def _commands(line: int, block: list[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The commands of a block, also those behind `&&`, with the numbers of their lines."""
    for match in re.finditer(r"(?:[^\n]*\\\n)*[^\n]+", "\n".join(block)):
        number = line + match.string.count("\n", 0, match.start())
        try:
            words = shlex.split(match[0].replace("\\\n", " "), comments=True)
        except ValueError:  # a quotation over several lines, of a script
            words = match[0].split()
        command = []
        for word in [*words, "&&"]:
            if word != "&&":
                command.append(word)
            elif command:
                yield number, tuple(command)
                command = []
