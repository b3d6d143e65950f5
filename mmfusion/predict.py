"""`python -m mmfusion.predict`: the genres of one film, from its poster, its overview, or both."""

import json
import sys
from pathlib import Path

import numpy as np

from mmfusion.errors import ArgumentParser, UserError, run_command
from mmfusion.runs import Run
from mmfusion.schema import CHANNELS, POSTER, TOKENS
from mmfusion.startup import cache_folder, import_tensorflow


def parser() -> ArgumentParser:
    """The command's flags."""
    p = ArgumentParser(prog="python -m mmfusion.predict", description=__doc__.split(": ", 1)[1])
    p.add_argument("run", type=Path, metavar="RUN", help="a finished run's folder")
    p.add_argument("--poster", type=Path, metavar="FILE", help="JPEG, PNG, GIF, WebP or BMP")
    p.add_argument("--overview", metavar="TEXT", help="a few sentences on what the film is about")
    p.add_argument("--json", action="store_true", help="print JSON instead of a table")
    return p


def main() -> None:
    """Reads the flags, predicts and prints."""
    args = parser().parse_args()
    run = Run.open(args.run)
    variant = run.config.variant
    poster = _poster(args.poster, run.config.data.poster_size)
    cache_folder()
    import_tensorflow()
    from mmfusion import experiment
    from mmfusion.models import model_class

    given = {POSTER: args.poster is not None, TOKENS: bool((args.overview or "").strip())}
    for modality in model_class(variant).reads:
        if not given[modality]:
            word = {POSTER: "poster", TOKENS: "overview"}[modality]
            raise UserError(f"{run.folder} is a {variant} run and reads the {word}: add --{word}")
    probabilities = experiment.predict(run, poster[None], [args.overview or ""])[0]
    thresholds = {row["genre"]: row["threshold"] for row in run.report["genres"]}
    rows = [
        {"genre": run.genres[i], "probability": float(probabilities[i]), "threshold": thresholds[run.genres[i]]}
        for i in np.argsort(-probabilities, kind="stable")
    ]
    for row in rows:
        row["predicted"] = row["probability"] >= (0.5 if row["threshold"] is None else row["threshold"])
    if args.json:
        print(json.dumps({"run": str(run.folder), "variant": variant, "genres": rows}, indent=2))
        return
    width = max(map(len, run.genres))
    print(f"{'genre':{width}}  probability  threshold")
    for row in rows:
        threshold = "        –" if row["threshold"] is None else f"{row['threshold']:9.3f}"
        print(f"{row['genre']:{width}}  {row['probability']:11.3f}  {threshold}{'  ✓' if row['predicted'] else ''}")


def _poster(path: Path | None, size: int) -> np.ndarray:
    """uint8 (size, size, 3); all zeros, which means no poster, without a file."""
    from mmfusion.data.posters import BadPoster, decode_poster

    if path is None:
        return np.zeros((size, size, CHANNELS), np.uint8)
    try:
        return decode_poster(path.read_bytes(), size)
    except OSError as error:
        raise UserError(f"--poster {path}: {error.strerror}") from error
    except BadPoster as error:
        raise UserError(f"--poster {path}: {error}") from error


if __name__ == "__main__":
    sys.exit(run_command(main))
