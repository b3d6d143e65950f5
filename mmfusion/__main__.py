"""`mmfusion` and `python -m mmfusion`: every command by one word."""

import difflib
import sys
from importlib import import_module

from mmfusion.errors import UserError, run_command

# A command's word -> its module, and what it does. By name, for the package imports neither tuning nor benchmarks.
COMMANDS = {
    "train": ("mmfusion.train", "trains one variant into a run folder and reports on it"),
    "evaluate": ("mmfusion.evaluate", "reports on one finished run, or on several side by side"),
    "predict": ("mmfusion.predict", "tells the genres of one film, or of a table of them"),
    "export": ("mmfusion.export", "writes a run's model in a format that needs no mmfusion"),
    "search": ("tuning.search", "looks for a variant's best hyperparameters"),
    "benchmark": ("benchmarks.run", "trains all variants and baselines over several seeds"),
    "table": ("benchmarks.table", "makes tables, figures and a report of them"),
    "tuned": ("benchmarks.tuned", "puts two such sweeps side by side, by default and by tuned settings"),
    "throughput": ("benchmarks.throughput", "measures how fast training is"),
    "options": ("benchmarks.options", "measures what else could make it faster"),
}


def main() -> None:
    """Hands the rest of the command line to the command that its first word names."""
    sys.exit(run_command(_main))


def _main() -> None:
    word, *rest = sys.argv[1:] or ["--help"]
    if word in ("-h", "--help"):
        print("mmfusion's commands; each answers --help:\n")
        for name, (module, what) in COMMANDS.items():
            print(f"    mmfusion {name:10}  or python -m {module:22} {what}")
        return
    if word not in COMMANDS:
        near = difflib.get_close_matches(word, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(COMMANDS)}"
        raise UserError(f"unknown command {word!r}; {hint}")
    sys.argv = [f"mmfusion {word}", *rest]
    import_module(COMMANDS[word][0]).main()


if __name__ == "__main__":
    main()
