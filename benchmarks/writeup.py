"""RESULTS.md: the whole report in words and tables."""

from collections.abc import Sequence

from benchmarks.findings import DRAWS, LEAST_P, PERMUTATIONS, Analysis, Comparison, Gain, Missing, Model
from benchmarks.missing import SHARES
from benchmarks.sheets import AT_HALF, CALIBRATION, COST, OVERALL, TUNED, is_undefined
from mmfusion.reports.contributions import Contribution
from mmfusion.reports.resampling import FEWEST
from mmfusion.reports.tables import UNDEFINED, markdown
from mmfusion.schema import PLURAL


def results_markdown(analysis: Analysis, pictures: dict[str, str], *, commands: list[str], machine: str) -> str:
    """RESULTS.md.

    Args:
        analysis: all numbers.
        pictures: captions by file name.
        commands: what trained the runs.
        machine: where and when.
    """
    seeds, models = len(analysis.seeds), list(analysis.models.values())
    lines = [
        f"# {analysis.dataset}: {len(models)} models, {seeds} seed{'s' * (seeds > 1)}",
        "Written by `python -m benchmarks.table`, not by hand, after",
        "\n".join(f"    {command}" for command in commands),
        f"{machine}.",
        *notes(analysis),
        "## What these films can show",
        "\n".join(f"- {sentence}" for sentence in sentences(analysis)),
        "## Scores",
        _score_table(models, {**OVERALL, **TUNED}),
        "F1 above is at one threshold a genre, tuned on validation films. At 0.5 for every genre:",
        _score_table(models, AT_HALF),
        "Intervals over films:",
        _interval_table(models, {**OVERALL, **TUNED}),
        "## Gains in micro-AP",
        _gain_table(analysis),
        "## By genre",
        *_genre_section(analysis),
        "## What each modality brings",
        *_modality_section(analysis),
        *_missing_section(analysis.missing),
        "## Calibration",
        "ECE: expected calibration error, 15 bins of equal width (Guo et al. 2017), over all predictions of a film "
        "and a genre. Brier: their mean squared error.",
        _score_table(models, CALIBRATION),
        "## Cost",
        COST_NOTE,
        _cost_table(models),
        "## Figures",
    ]
    for file, caption in pictures.items():
        lines += [f"![{caption}](figures/{file})", caption]
    return "\n\n".join(lines) + "\n"


COST_NOTE = (
    "Training seconds of late fusion and of `tfidf_colours` include those of their parts, and of the other "
    "baselines the choice of their penalty. Milliseconds of networks are of prepared films, without reading "
    "posters and words; of baselines, with their features. One repetition each, by the clock, on a machine that "
    "may have had other work: where seeds differ much, it had."
)


def notes(analysis: Analysis) -> list[str]:
    """What one must know to read the numbers, a paragraph each."""
    films = ", ".join(
        f"{min(counts):,}{f' to {max(counts):,}' * (max(counts) > min(counts))} {split}"
        for split, counts in analysis.films.items()
    )
    seeds = _listed("seed", analysis.seeds)
    split_seeds = _listed("split seed", analysis.split_seeds)
    said = [f"{seeds.capitalize()}, {split_seeds}: {films} films. Scores are of the test films."]
    if analysis.splits > 1:
        said.append(
            "Each seed has a split of its own of the same films. A film that tests in one seed may train in "
            "another, or be one of the validation films that a recipe was chosen on."
        )
    elif len(analysis.seeds) > 1:
        said.append("All seeds have one split: their spread is that of training, and not of the films.")
    said += [
        f"*a ± b*: mean and standard deviation over seeds. *[a, b]*: 95% interval of {DRAWS:,} bootstrap draws of"
        " the films (Efron 1979), without the draws' own bias; it tells what other films, as many as these, "
        "could have given, not what another training could have. There is none for genres with fewer than "
        f"{FEWEST} positive test films a seed, nor for F1 macro, where it would not hold what it promises.",
        "Differences are paired: the same films, and the same draws of them, for both models. p: two-sided "
        f"permutation test, {PERMUTATIONS:,} times with the two models' rankings swapped film by film; among "
        "genres corrected by Holm's method, but not for the number of models. A gain or loss counts as shown "
        "where the interval and p (below 0.05) both say so. Which model of one modality is the better one, or "
        "which baseline the best, was decided by micro-AP on validation films. A rival reads no other modality, "
        "and the same pretrained encoders or none: any other gain would be theirs.",
    ]
    if any(" (" in name for name in analysis.models):
        said.append(
            "In brackets: the encoders, or else the modalities; pretrained encoders are frozen, unless said."
        )
    if gone := ", ".join(analysis.undefined):
        said.append(f"No test film of these genres: {gone}. They are undefined and in no average.")
    if some := ", ".join(analysis.sometimes):
        said.append(f"Only some seeds have test films of these genres: {some}. Their means are of those seeds.")
    if any(model.seeds != analysis.seeds for model in analysis.models.values()):
        seeds = [f"{model.name} ({', '.join(map(str, model.seeds))})" for model in analysis.models.values()]
        said.append(
            "Not every model has every seed, so means are not all of the same films; comparisons are of the seeds "
            f"that both have. Seeds: {', '.join(seeds)}."
        )
    if analysis.left_out:
        said.append(f"Left out: {'; '.join(analysis.left_out)}.")
    tested = max((sum(g.p_holm == g.p_holm for g in one.genres.values()) for one in analysis.fusion), default=0)
    if tested * LEAST_P >= 0.05:
        said.append(
            f"With {tested} genres, {PERMUTATIONS:,} permutations are too few for Holm's method to "
            "show anything genre by genre."
        )
    return said


def _listed(word: str, numbers: Sequence[int]) -> str:
    return f"{word}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def sentences(analysis: Analysis) -> list[str]:
    """What follows, in plain words."""
    said = []
    for comparison in analysis.fusion:
        said.append(_sentence(comparison) + _genre_sentence(comparison))
    said += [_sentence(comparison) + "." for comparison in (*analysis.further, *analysis.baseline)]
    return said


def _sentence(comparison: Comparison) -> str:
    gain = comparison.micro
    numbers = f"{_signed(gain)}, p {'' if gain.p <= LEAST_P else '= '}{_p(gain.p)}"
    if gain.verdict:
        return f"**{comparison.name}** is {gain.verdict} than {comparison.over}: micro-AP {numbers}"
    return (
        f"**{comparison.name}** has no gain over {comparison.over} that these films can show, nor a loss: "
        f"micro-AP {numbers}"
    )


def _genre_sentence(comparison: Comparison) -> str:
    if not comparison.genres:
        return "."
    found = {
        word: [g for g, one in comparison.genres.items() if one.verdict == word] for word in ("better", "worse")
    }
    parts = [f"{verdict} in {', '.join(genres)}" for verdict, genres in found.items() if genres]
    return f". By genre: {'; '.join(parts) or 'no gain or loss that these films can show'}."


def _signed(gain: Gain) -> str:
    return _with_interval(gain.gain, gain.low, gain.high)


def _with_interval(value: float, low: float, high: float) -> str:
    return _number(value, "+.3f") + ("" if is_undefined(low) else f" [{low:+.3f}, {high:+.3f}]")


def _p(p: float) -> str:
    return f"≤ {LEAST_P}" if p <= LEAST_P else _number(p)


def _number(value: float | None, form: str = ".3f") -> str:
    return UNDEFINED if is_undefined(value) else format(value, form)


def _score_table(models: Sequence[Model], columns: dict[str, str]) -> str:
    rows = [[model.name, *(_spread(model, name) for name in columns.values())] for model in models]
    return markdown(["model", *columns], rows)


def _spread(model: Model, name: str, form: str = ".3f") -> str:
    score = model.scores[name]
    spread = f" ± {score.deviation:{form}}" if score.deviation is not None else ""
    return _number(score.mean, form) + spread


def _interval_table(models: Sequence[Model], columns: dict[str, str]) -> str:
    def cell(score):
        return UNDEFINED if score.low is None else f"[{score.low:.3f}, {score.high:.3f}]"

    return markdown(
        ["model", *columns], [[m.name, *(cell(m.scores[name]) for name in columns.values())] for m in models]
    )


def _cost_table(models: Sequence[Model]) -> str:
    rows = []
    for model in models:
        cells = [_spread(model, name, form) for name, form in zip(COST.values(), (",.0f", ",.0f", ".2f"))]
        rows.append([model.name, *cells])
    return markdown(["model", *COST], rows)


def _gain_table(analysis: Analysis) -> str:
    rows = []
    for one in analysis.compared:
        gain = one.micro
        interval = UNDEFINED if is_undefined(gain.low) else f"[{gain.low:+.3f}, {gain.high:+.3f}]"
        rows.append([one.name, one.over, _number(gain.gain, "+.3f"), interval, _p(gain.p)])
    return markdown(["model", "over", "gain", "95% interval", "p"], rows)


def _genre_section(analysis: Analysis) -> list[str]:
    networks = sorted((m for m in analysis.models.values() if not m.is_baseline), key=lambda m: m.modalities)
    fusion = [one for one in analysis.fusion if not analysis.models[one.name].is_baseline]
    precision, f1 = [], []
    for genre in analysis.genres:
        head = [genre, f"{analysis.support[genre]:.0f}"]
        gains = [one.genres.get(genre) for one in fusion]
        shown = [UNDEFINED if gain is None else _signed(gain) + " *" * bool(gain.verdict) for gain in gains]
        precision.append([*head, *(_number(m.genres[genre].mean) for m in networks), *shown])
        f1.append([*head, *(_number(m.f1[genre].mean) for m in analysis.models.values())])
    heads = [*(m.name for m in networks), *(f"{one.name} over {one.over}" for one in fusion)]
    return [
        "Average precision. *: shown by these films (see above).",
        markdown(["genre", "films", *heads], precision),
        "F1 at the genre's tuned threshold:",
        markdown(["genre", "films", *analysis.models], f1),
    ]


def _modality_section(analysis: Analysis) -> list[str]:
    if not analysis.brought:
        return ["No model here reads more than one modality."]
    rows, modalities = [], analysis.contributing
    for one in analysis.brought:
        c, (low, high) = one.micro, one.interaction
        lost = [_number(c.perceptual.get(name), ".0%") for name in modalities]
        shares = [_number(c.shapley.get(name)) for name in modalities]
        interaction = _with_interval(c.whole - c.additive, low, high)
        rows.append([one.name, *lost, *shares, _number(c.whole), _number(c.additive), interaction])
    heads = ["model", *contribution_heads(modalities)]
    heads += [f"micro-AP, {analysis.brought[0].paired} films", "additive", "interaction"]
    by_genre = [
        [genre, f"{analysis.support[genre]:.0f}", *(_shapley(one.genres.get(genre)) for one in analysis.brought)]
        for genre in analysis.genres
    ]
    return [
        MODALITY_NOTE,
        markdown(heads, rows),
        "Shapley values by genre, in average precision:",
        markdown([" : ".join(modalities), "films", *(one.name for one in analysis.brought)], by_genre),
    ]


def contribution_heads(modalities: Sequence[str]) -> list[str]:
    """Headings of perceptual scores and Shapley values."""
    return [f"{PLURAL[name]} exchanged" for name in modalities] + [f"Shapley {name}" for name in modalities]


MODALITY_NOTE = (
    "*Exchanged*: how much of the micro-AP is lost when one modality is exchanged among the test films "
    "(perceptual score, Gat et al. 2021). *Shapley*: each modality's exact share, in micro-AP, of what the model"
    " gains over itself with all exchanged. *Additive*: the model's best approximation by a sum of functions of "
    "one modality each (EMAP, Hessel and Lee 2020), computed for some films of each seed; the difference to the "
    "model is what interactions bring."
)


MISSING_NOTE = (
    "Micro-AP where a share of the test films lacks one modality; no network was trained again. Which "
    "films miss something is decided by a hash of their ids: the same films for all models and seeds, and those of "
    "a share are among those of every larger one. *a, else b*: a switch between two models of one modality, a "
    "where a film has what it reads and b where it has not. *Floor*: the best that does without fusion, a switch "
    "or a model of one modality on what is left, chosen on these test films, in the floor's favour."
)


def _missing_section(found: Sequence[Missing]) -> list[str]:
    if not found:
        return []
    lines = ["## Missing modalities", MISSING_NOTE]
    for one in found:
        what = PLURAL[one.modality]
        shares = [f"{share:.0%}" for share in SHARES]
        rows = [[name, *(_number(score.mean) for score in scores)] for name, scores in one.scores.items()]
        lines.append(markdown([f"{what} missing", *shares], [*rows, ["floor", *map(_number, one.floor)]]))
        if one.margins:
            rows = [
                [name, *(_with_interval(m.difference, m.low, m.high) for m in margins)]
                for name, margins in one.margins.items()
            ]
            lines += [f"Less the floor, {what} missing:", markdown(["model", *shares], rows)]
    return lines


def _shapley(one: Contribution | None) -> str:
    return UNDEFINED if one is None else " : ".join(_number(value, "z.2f") for value in one.shapley.values())
