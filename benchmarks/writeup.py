"""RESULTS.md: the whole report in words, which are in `templates/`, and tables."""

from collections.abc import Sequence

from benchmarks.findings import Analysis, Missing, Model
from benchmarks.missing import SHARES
from benchmarks.sheets import COST, COST_FORMS
from mmfusion.evaluation.comparison import DRAWS, PERMUTATIONS, Comparison
from mmfusion.evaluation.contributions import Contribution
from mmfusion.evaluation.metrics import columns
from mmfusion.evaluation.resampling import FEWEST
from mmfusion.reports.tables import (
    UNDEFINED,
    comparison_sentence,
    gain_table,
    markdown,
    number,
    signed,
    with_interval,
)
from mmfusion.schema import PLURAL
from mmfusion.templates import render


def results_markdown(analysis: Analysis, pictures: dict[str, str], *, commands: list[str], machine: str) -> str:
    """Gives RESULTS.md.

    Args:
        analysis: all numbers.
        pictures: captions by file name.
        commands: what trained the runs.
        machine: where and when.
    """
    tables = (score_table, interval_table, gain_table, precision_table, f1_table, modality_table, shapley_table)
    tables += (missing_table, margin_table, cost_table)
    return render(
        "benchmarks",
        "RESULTS.md",
        **NOTES,
        **{table.__name__: table for table in tables},
        a=analysis,
        models=list(analysis.models.values()),
        commands=commands,
        machine=machine,
        sentences=sentences(analysis),
        columns=columns,
        plural=PLURAL,
        pictures=pictures,
    )


def listed(word: str, numbers: Sequence[int]) -> str:
    """Gives "seeds 0, 1, 2"."""
    return f"{word}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def from_to(counts: Sequence[int]) -> str:
    """Gives "1,100 to 1,200", or the one number."""
    return " to ".join(f"{count:,}" for count in sorted({min(counts), max(counts)}))


# What `templates/notes.md` names.
NOTES = {
    "DRAWS": DRAWS,
    "PERMUTATIONS": PERMUTATIONS,
    "FEWEST": FEWEST,
    "listed": listed,
    "from_to": from_to,
}


def sentences(analysis: Analysis) -> list[str]:
    """Says what follows, in plain words."""
    said = []
    for comparison in analysis.fusion:
        said.append(comparison_sentence(comparison) + _genre_sentence(comparison))
    said += [comparison_sentence(comparison) + "." for comparison in (*analysis.further, *analysis.baseline)]
    return said


def _genre_sentence(comparison: Comparison) -> str:
    if not comparison.genres:
        return "."
    found = {
        word: [g for g, one in comparison.genres.items() if one.verdict == word] for word in ("better", "worse")
    }
    parts = [f"{verdict} in {', '.join(genres)}" for verdict, genres in found.items() if genres]
    return f". By genre: {'; '.join(parts) or 'no gain or loss that these films can show'}."


def score_table(models: Sequence[Model], shown: dict[str, str]) -> str:
    """Tables means and deviations, a row a model and a column a score."""
    rows = [[model.name, *(_spread(model, name) for name in shown.values())] for model in models]
    return markdown(["model", *shown], rows)


def _spread(model: Model, name: str, form: str = ".3f") -> str:
    score = model.scores[name]
    spread = f" ± {score.deviation:{form}}" if score.deviation is not None else ""
    return number(score.mean, form) + spread


def interval_table(models: Sequence[Model], shown: dict[str, str]) -> str:
    """Tables the intervals of the same."""

    def cell(score):
        return UNDEFINED if score.low is None else f"[{score.low:.3f}, {score.high:.3f}]"

    rows = [[model.name, *(cell(model.scores[name]) for name in shown.values())] for model in models]
    return markdown(["model", *shown], rows)


def cost_table(models: Sequence[Model]) -> str:
    """Tables what models cost."""
    rows = [[one.name, *(_spread(one, name, form) for name, form in COST_FORMS.items())] for one in models]
    return markdown(["model", *COST], rows)


def precision_table(analysis: Analysis) -> str:
    """Tables average precision by genre, of networks, with fusions' gains."""
    networks = sorted((m for m in analysis.models.values() if not m.is_baseline), key=lambda m: m.modalities)
    fusion = [one for one in analysis.fusion if not analysis.models[one.name].is_baseline]
    rows = []
    for genre in analysis.genres:
        gains = [one.genres.get(genre) for one in fusion]
        shown = [UNDEFINED if gain is None else signed(gain) + " *" * bool(gain.verdict) for gain in gains]
        rows.append([*_genre(analysis, genre), *(number(m.genres[genre].mean) for m in networks), *shown])
    heads = [*(m.name for m in networks), *(f"{one.name} over {one.over}" for one in fusion)]
    return markdown(["genre", "films", *heads], rows)


def f1_table(analysis: Analysis) -> str:
    """Tables F1 by genre, of all models."""
    models = analysis.models.values()
    rows = [[*_genre(analysis, g), *(number(one.f1[g].mean) for one in models)] for g in analysis.genres]
    return markdown(["genre", "films", *analysis.models], rows)


def _genre(analysis: Analysis, genre: str) -> tuple[str, str]:
    return genre, f"{analysis.support[genre]:.0f}"


def contribution_heads(modalities: Sequence[str]) -> list[str]:
    """Heads perceptual scores and Shapley values."""
    return [f"{PLURAL[name]} exchanged" for name in modalities] + [f"Shapley {name}" for name in modalities]


def modality_table(analysis: Analysis) -> str:
    """Tables what each modality brings to each model that reads several."""
    rows, modalities = [], analysis.contributing
    for one in analysis.brought:
        c, (low, high) = one.micro, one.interaction
        lost = [number(c.perceptual.get(name), ".0%") for name in modalities]
        shares = [number(c.shapley.get(name)) for name in modalities]
        interaction = with_interval(c.whole - c.additive, low, high)
        rows.append([one.name, *lost, *shares, number(c.whole), number(c.additive), interaction])
    heads = ["model", *contribution_heads(modalities)]
    heads += [f"micro-AP, {analysis.brought[0].paired} films", "additive", "interaction"]
    return markdown(heads, rows)


def shapley_table(analysis: Analysis) -> str:
    """Tables Shapley values by genre."""

    def shares(one: Contribution | None) -> str:
        if one is None:
            return UNDEFINED
        return " : ".join(number(one.shapley.get(name), "z.2f") for name in analysis.contributing)

    rows = [
        [*_genre(analysis, genre), *(shares(one.genres.get(genre)) for one in analysis.brought)]
        for genre in analysis.genres
    ]
    return markdown([" : ".join(analysis.contributing), "films", *(one.name for one in analysis.brought)], rows)


_SHARES = [f"{share:.0%}" for share in SHARES]


def missing_table(one: Missing) -> str:
    """Tables micro-AP by the share of films that miss a modality."""
    rows = [[name, *(number(score.mean) for score in scores)] for name, scores in one.scores.items()]
    return markdown([f"{PLURAL[one.modality]} missing", *_SHARES], [*rows, ["floor", *map(number, one.floor)]])


def margin_table(one: Missing) -> str:
    """Tables how far fusions are above what does without fusion."""
    rows = []
    for name, margins in one.margins.items():
        rows.append([name, *(with_interval(m.difference, m.low, m.high) for m in margins)])
    return markdown(["model", *_SHARES], rows)
