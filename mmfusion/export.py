"""`python -m mmfusion.export`: a finished run's model in a format that needs no mmfusion."""

import importlib.util
import sys
from pathlib import Path

from mmfusion.config import VARIANTS
from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.runs import Run
from mmfusion.startup import begin_command, import_tensorflow

# What is needed beside mmfusion's own dependencies to write a format and to check what was written.
FORMATS = {"savedmodel": (), "onnx": ("tf2onnx", "onnxruntime"), "litert": ("ai_edge_litert",)}


def parser() -> ArgumentParser:
    """The command's flags; TensorFlow is not imported to answer --help."""
    p = ArgumentParser(prog="python -m mmfusion.export", description=__doc__)
    p.add_argument("run", type=Path, metavar="RUN", help="a finished run's folder")
    p.add_argument(
        "--format", required=True, choices=list(FORMATS), help="savedmodel takes posters' bytes and texts"
    )
    p.add_argument("--out", type=Path, metavar="DIR", help="the folder to write (default: under exports/)")
    return p


def main() -> None:
    """Reads the flags, exports and checks."""
    args = parser().parse_args()
    run = Run.open(args.run)
    if (variant := run.config.variant) not in VARIANTS:
        raise UserError(
            f"{run.folder} is a run of {variant}, a baseline without a network, and there is nothing to export; "
            f"name a run of {', '.join(VARIANTS)}"
        )
    if missing := [name for name in FORMATS[args.format] if importlib.util.find_spec(name) is None]:
        raise UserError(
            f"--format {args.format} needs {' and '.join(missing)}; in mmfusion's folder, "
            'pip install -c constraints.txt -e ".[export]"'
        )
    out = args.out or Path("exports") / f"{run.name}-{args.format}"
    begin_command()
    import_tensorflow()
    from mmfusion.inference.export import export

    difference = export(run, args.format, out)
    print(
        f"The model is in {out}. On a few made films its probabilities differ from the run's by {difference:.1g}."
    )


if __name__ == "__main__":
    sys.exit(run_command(main))
