"""Advice as a page and a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cpt.report import style
from cpt.report.advice import ADVISED, Estimate, Setting
from cpt.report.advice_laws import Law
from cpt.report.labels import count_label


def draw_front(
    drawn: Figure,
    settings: Sequence[Setting],
    front: Sequence[Setting],
    chosen: Setting | None,
    laws: tuple[Law, Law],
    corpora: tuple[str, str],
) -> None:
    """Plot each setting's predicted general over domain bits per byte, with intervals on the front.

    Args:
        drawn: empty figure.
        settings, front, chosen: all, those that no other beats in both, and the recommended one.
        laws, corpora: of the domain and of the general corpus.
    """
    axes = drawn.subplots()
    replays = sorted({setting.point["replay"] for setting in settings})
    budgets = sorted({setting.point["tokens"] for setting in settings})
    for setting in settings:
        look = style.look(replays.index(setting.point["replay"]), "color")
        look |= style.look(budgets.index(setting.point["tokens"]), "marker")
        (x, low, high), (y, below, above) = setting.domain, setting.general
        if setting in front:
            errors = {"xerr": [[x - low], [high - x]], "yerr": [[y - below], [above - y]]}
            axes.errorbar(x, y, **errors, color=look["color"], elinewidth=0.6, alpha=0.5)
        axes.plot(x, y, **look, linestyle="", markersize=5, alpha=1 if setting in front else 0.35)
    way = [(setting.domain[0], setting.general[0]) for setting in front]
    axes.plot(*zip(*way, strict=True), color=style.GREY, linewidth=0.8, zorder=1)
    axes.plot(laws[0].start, laws[1].start, "x", color="black", markersize=7)
    offset = {"xytext": (-6, 6), "textcoords": "offset points", "ha": "right"}
    axes.annotate("base model", (laws[0].start, laws[1].start), **offset)
    if chosen:
        axes.plot(chosen.domain[0], chosen.general[0], "o", color="black", fillstyle="none", markersize=11)
    for index, replay in enumerate(replays):
        axes.plot([], [], "o", **style.look(index, "color"), label=f"replay {replay:.3g}")
    for index, tokens in enumerate(budgets):
        label = f"{count_label(tokens)} tokens"
        axes.plot([], [], linestyle="", color=style.GREY, **style.look(index, "marker"), label=label)
    axes.set(xlabel=f"{corpora[0]}: bits per byte", ylabel=f"{corpora[1]}: bits per byte")
    style.legend(drawn, 4)


def _estimate(estimate: Estimate, start: float) -> str:
    middle, low, high = estimate
    return f"{middle:.4f} ({low:.4f} to {high:.4f}), {middle / start - 1:+.1%}"


def _rows(settings: Sequence[Setting], chosen: Setting | None, laws: tuple[Law, Law]) -> list[str]:
    lines = [
        "| full run | learning rate | replay | weight decay | domain | general | epochs | hours |",
        "| --- | ---: | ---: | ---: | --- | --- | ---: | ---: |",
    ]
    for setting in settings:
        point = setting.point
        mark = "**" if setting is chosen else ""
        cells = [
            f"{mark}{count_label(point['tokens'])}{mark}",
            *(f"{point[key]:g}" for key in ("rate", "replay", "decay")),
            _estimate(setting.domain, laws[0].start),
            _estimate(setting.general, laws[1].start),
            *(f"{value:.3g}" for value in (setting.epochs, setting.hours)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _recommendation(chosen: Setting | None, reasons: list[str], overlay: Path) -> list[str]:
    if chosen is None:
        return ["## No recommendation", "", *reasons, ""]
    point = chosen.point
    return [
        "## Recommended",
        "",
        f"Train {count_label(point['tokens'])} tokens at a peak learning rate of {point['rate']:g}, a share "
        f"of {point['replay']:.3g} general text and a weight decay of {point['decay']:g}: about "
        f"{chosen.hours:.3g} hours at the proxies' speed, {chosen.epochs:.3g} epochs over the domain's text.",
        "",
        f"Ready to run as `{ADVISED}`, behind your own overlay: `snakemake --cores all "
        f"--configfile YOURS.yaml {overlay}`. Then `snakemake predictions` with the same files "
        "puts predicted and measured side by side.",
        "",
    ]


def advice_page(
    settings: Sequence[Setting],
    front: Sequence[Setting],
    chosen: Setting | None,
    reasons: list[str],
    laws: tuple[Law, Law],
    facts: dict[str, Any],
) -> str:
    """The page, as Markdown.

    Args:
        settings, front, chosen, reasons: of cpt.report.advice.
        laws: of the domain and of the general corpus.
        facts: overlay (its path), corpora (names), proxies (how many), measurements (of each corpus), hours
            (of the proxies), most_forgetting.
    """
    fits = [
        f"| {corpus} | {law.start:.4f} | {law.change:.4f} | {law.misfit:.4f} | {law.spread:.4f} |"
        for corpus, law in zip(facts["corpora"], laws, strict=True)
    ]
    return "\n".join(
        [
            "# Advice",
            "",
            *_recommendation(chosen, reasons, facts["overlay"]),
            "## Pareto front",
            "",
            "Predicted bits per byte of the held-out text at the end of the full run, with 95 % intervals "
            "and the change from the base model. No other setting is better at both. settings.csv has all "
            f"{len(settings)}; figures/advise shows them.",
            "",
            *_rows(front, chosen, laws),
            "## What it rests on",
            "",
            f"{facts['proxies']} proxies, {facts['hours']:.3g} hours of training in all, "
            f"{facts['measurements']} measurements of each corpus. Recommended is the best at the domain "
            f"among the settings whose general text rises by at most {facts['most_forgetting']:.1%} up to "
            "the upper end of its interval. Bits per byte; docs/advice.md has the law.",
            "",
            "| corpus | base model | largest change | residuals (RMS) | spread carried to the full run |",
            "| --- | ---: | ---: | ---: | ---: |",
            *fits,
            "",
        ]
    )
