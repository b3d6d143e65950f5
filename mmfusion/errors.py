"""Errors for people, and the end of a command."""

import argparse
import codecs
import errno
import io
import os
import sys
from collections.abc import Callable

INTERRUPTED = 130  # what shells expect of a command ended by Ctrl-C
# What stands for a sign that a terminal's encoding has not: cp1252 has no tick, ASCII none of these.
_PLAIN = {"✓": "*", "–": "-", "—": "-", "…": "...", "≤": "<=", "±": "+-", "×": "x"}
# What a disk may refuse anywhere: room, a quota, the size of a file, the right to read or write, a sector.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


def printable(text: str) -> str:
    """Gives a text of one line that a terminal does not obey: what cannot be printed is written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class UserError(Exception):
    """Something the user can put right; its message is one line: what is wrong, where, what to do."""

    def __init__(self, message: str):
        # A key or a file's name can hold line breaks, and what clears a terminal.
        super().__init__(printable(message))


def first_line(error: Exception) -> str:
    """Gives the first line of somebody else's error, for a message of ours."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__


class ArgumentParser(argparse.ArgumentParser):
    """argparse, but a wrong flag gets one line like every other fault, and --help says what the user typed."""

    def __init__(self, prog: str, description: str | None):
        typed = sys.argv[0] if sys.argv[0].startswith("mmfusion ") else prog
        # Of a module's docstring what it says behind the command's name; `python -OO` keeps none.
        super().__init__(prog=typed, description=(description or "").split(": ", 1)[-1])

    def error(self, message: str):
        raise UserError(f"{message}; see --help")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Replaces what cannot be encoded, as an error handler of `codecs`."""
    assert isinstance(error, UnicodeEncodeError)  # it is named for output alone
    return "".join(_PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end


def settle_output() -> None:
    """Makes output no reason to fail: what cannot be shown is replaced, what has nowhere to go is dropped."""
    codecs.register_error("mmfusion.plain", _plain)
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:  # closed; the lowest free number is this one, and no file of ours may get it
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a notebook's or a test's own takes everything
            stream.reconfigure(errors="mmfusion.plain")


def run_command(main: Callable[[], None]) -> int:
    """Runs a command's `main` and returns its exit code: 0, 2 after a `UserError`, 130 after Ctrl-C."""
    settle_output()
    try:
        main()
    except UserError as error:
        print(f"mmfusion: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nmmfusion: interrupted; train goes on with --resume, benchmarks.run and tuning.search with the "
            "same command",
            file=sys.stderr,
        )
        return INTERRUPTED
    except BrokenPipeError:  # `... | head` closed our output; there is nobody left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        print(f"mmfusion: {error.filename or 'a file'}: {error.strerror}", file=sys.stderr)
        return 2
    return 0
