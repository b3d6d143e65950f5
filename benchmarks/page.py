"""The benchmark's report as one HTML file: no server, no other file, nothing fetched."""

import base64
import re
from importlib import resources
from pathlib import Path

from markupsafe import Markup, escape

from benchmarks.findings import Analysis
from benchmarks.sheets import COST, COST_FORMS
from benchmarks.writeup import NOTES, contribution_heads, sentences
from mmfusion.evaluation.metrics import columns
from mmfusion.reports.tables import is_undefined
from mmfusion.templates import render

_KINDS = {".svg": "svg+xml", ".png": "png"}


def page(analysis: Analysis, figures: Path, pictures: dict[str, str], galleries: dict[str, str]) -> str:
    """Gives the whole report, as `templates/report.html` has it.

    Args:
        analysis: all numbers.
        figures: the folder of the pictures.
        pictures: captions of the figures, by PNG file.
        galleries: captions of the galleries, by PNG file.
    """
    at_half = {f"{heading} at 0.5": name for heading, name in columns("at_0.5").items()}
    ours = resources.files("benchmarks")
    return render(
        "benchmarks",
        "report.html",
        **NOTES,
        a=analysis,
        style=Markup((ours / "report.css").read_text("utf-8")),
        script=Markup((ours / "report.js").read_text("utf-8")),
        inline=inline,
        fmt=format,
        is_undefined=is_undefined,
        sentences=sentences(analysis),
        score_columns=columns("overall", "f1") | at_half | columns("calibration"),
        cost=COST,
        forms=COST_FORMS,
        contribution_heads=contribution_heads(analysis.contributing),
        pictures=[(_data((figures / name).with_suffix(".svg")), text) for name, text in pictures.items()],
        galleries=[(_data(figures / name), text) for name, text in galleries.items()],
    )


def inline(text: str) -> Markup:
    """Gives a sentence of RESULTS.md, with its few marks, as HTML."""
    marked = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", str(escape(str(text))))  # a macro calls its text safe
    marked = re.sub(r"\*(.+?)\*", r"<i>\1</i>", marked)
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", marked))


def _data(picture: Path) -> str:
    return f"data:image/{_KINDS[picture.suffix]};base64,{base64.b64encode(picture.read_bytes()).decode()}"
