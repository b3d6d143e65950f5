"""The benchmark's report as one HTML file: no server, no other file, nothing fetched."""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from benchmarks.findings import Analysis, Score
from benchmarks.sheets import AT_HALF, CALIBRATION, COST, OVERALL, TUNED, is_undefined
from benchmarks.writeup import COST_NOTE, MODALITY_NOTE, contribution_heads, notes, sentences
from mmfusion.reports.tables import UNDEFINED

Cell = tuple[str, object]  # what is shown, and what it is sorted by


def page(analysis: Analysis, figures: Path, pictures: dict[str, str], galleries: dict[str, str]) -> str:
    """The whole report.

    Args:
        analysis: all numbers.
        figures: the folder of the pictures.
        pictures: captions of the figures, by PNG file.
        galleries: captions of the galleries, by PNG file.
    """
    style, script = (
        (resources.files("benchmarks") / name).read_text("utf-8") for name in ("report.css", "report.js")
    )
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',
        f"<title>mmfusion: {_text(analysis.dataset)}</title><style>{style}</style></head><body>",
        f"<h1>{_text(analysis.dataset)}: {len(analysis.models)} models</h1>",
        *(_paragraph(note) for note in notes(analysis)),
        "<p>A click on a column's head sorts by it; rest the pointer on a score for its interval.</p>",
        "<h2>What these films can show</h2><ul>",
        *(f"<li>{_inline(sentence)}</li>" for sentence in sentences(analysis)),
        "</ul><h2>Models</h2>",
        _models(analysis),
        _paragraph(COST_NOTE),
        "<h2>Gains</h2>",
        _gains(analysis),
        "<h2>Average precision by genre</h2>",
        _genres(analysis),
    ]
    if analysis.brought:
        parts += ["<h2>What each modality brings</h2>", _paragraph(MODALITY_NOTE), _modalities(analysis)]
    parts += [
        "<h2>Figures</h2>",
        *(_figure((figures / name).with_suffix(".svg"), text) for name, text in pictures.items()),
    ]
    if galleries:
        parts += ["<h2>Films</h2>", *(_figure(figures / name, text) for name, text in galleries.items())]
    parts.append(f"<script>{script}</script></body></html>")
    return "\n".join(parts) + "\n"


def _text(text: str) -> str:
    return html.escape(text)


def _paragraph(text: str) -> str:
    return f"<p>{_inline(text)}</p>"


def _inline(text: str) -> str:
    """A sentence of RESULTS.md with its few marks."""
    marked = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", _text(text))
    marked = re.sub(r"\*(.+?)\*", r"<i>\1</i>", marked)
    return re.sub(r"`(.+?)`", r"<code>\1</code>", marked)


def _figure(picture: Path, caption: str) -> str:
    kind = {".svg": "svg+xml", ".png": "png"}[picture.suffix]
    data = base64.b64encode(picture.read_bytes()).decode()
    alt = _text(caption)
    return f'<figure><img alt="{alt}" src="data:image/{kind};base64,{data}"><figcaption>{alt}</figcaption></figure>'


def _table(head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    lines = ["<table><thead><tr>", *(f"<th><button>{_text(name)}</button></th>" for name in head)]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        cells = (f'<td data-sort="{_text(str(value))}">{shown}</td>' for shown, value in row)
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*lines, "</tbody></table>"])


def _name(text: str) -> Cell:
    return _text(text), text


def _number(value: float | None, form: str = ".3f") -> Cell:
    if is_undefined(value):
        return UNDEFINED, ""
    return format(value, form), value


def _score(score: Score, form: str = ".3f") -> Cell:
    shown, value = _number(score.mean, form)
    if score.deviation is not None and form == ".3f":
        shown += f' <span class="spread">± {score.deviation:.3f}</span>'
    if score.low is not None:
        shown = f'<span title="95% interval: {score.low:.3f} to {score.high:.3f}">{shown}</span>'
    return shown, value


def _models(analysis: Analysis) -> str:
    at_half = {f"{heading} at 0.5": name for heading, name in AT_HALF.items()}
    columns = {
        **OVERALL,
        **TUNED,
        **at_half,
        **CALIBRATION,
    }
    forms = {"parameters": ",.0f", "train_seconds": ",.0f", "ms_per_film": ".2f"}
    rows = [
        [
            _name(model.name),
            *(_score(model.scores[name]) for name in columns.values()),
            *(_score(model.scores[name], forms[name]) for name in COST.values()),
        ]
        for model in analysis.models.values()
    ]
    return _table(["model", *columns, *COST], rows)


def _gains(analysis: Analysis) -> str:
    rows = []
    for one in analysis.compared:
        for genre, gain in {"all (micro)": one.micro, **one.genres}.items():
            verdict = gain.verdict or "not shown"
            numbers = [
                _number(gain.gain, "+.3f"),
                _number(gain.low, "+.3f"),
                _number(gain.high, "+.3f"),
                _number(gain.p, ".4f"),
                _number(gain.p_holm, ".4f"),
            ]
            rows.append([_name(one.name), _name(one.over), _name(genre), *numbers, _name(verdict)])
    return _table(["model", "over", "genre", "gain", "from", "to", "p", "p by Holm", "what films show"], rows)


def _genres(analysis: Analysis) -> str:
    models = list(analysis.models.values())
    rows = [
        [_name(genre), _number(analysis.support[genre], ".0f"), *(_score(m.genres[genre]) for m in models)]
        for genre in analysis.genres
    ]
    return _table(["genre", "test films", *(m.name for m in models)], rows)


def _modalities(analysis: Analysis) -> str:
    rows, modalities = [], analysis.contributing
    for one in analysis.brought:
        for genre, c in {"all (micro)": one.micro, **one.genres}.items():
            lost = [_number(c.perceptual.get(name), ".0%") for name in modalities]
            rest = [*(c.shapley.get(name) for name in modalities), c.whole, c.additive, c.whole - c.additive]
            rows.append([_name(one.name), _name(genre), *lost, *(_number(value, "z.3f") for value in rest)])
    heads = contribution_heads(modalities)
    heads += [f"AP, {analysis.brought[0].paired} films a seed", "additive", "interaction"]
    return _table(["model", "genre", *heads], rows)
