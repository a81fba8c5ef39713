import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cpt.command import run
from cpt.files import read_json, write_json, write_text
from cpt.progress import NOTICE
from cpt.provenance import provenance
from cpt.report import advice, style
from cpt.report.advice_laws import fit_law
from cpt.report.advice_page import advice_page, draw_front
from cpt.report.rows import write_rows


def advise(
    points: list[dict[str, Any]],
    corpora: list[str],
    most_forgetting: float,
    maximum_epochs: int,
    place: dict[str, int],
    like: str,
    seed: int,
    held_out_losses: Sequence[Path],
    schedules: Sequence[Path],
    summaries: Sequence[Path],
    packed: Sequence[Path],
    page: Path,
    overlay: Path,
    laws: Path,
    proxies: Path,
    settings: Path,
    figure: Sequence[Path],
) -> None:
    """Predict full runs from the proxies, and recommend one of them, or say why not.

    Args:
        points: each proxy's point in the grid.
        corpora: the domain and the general corpus.
        most_forgetting: largest relative rise of general bits per byte in a recommended run.
        maximum_epochs: most epochs that the full run's mixture may be packed with.
        place: processes of the full run: gpus or cpus, and nodes.
        like: the run whose processes and settings the proxies have.
        seed: seed of the bootstrap.
        held_out_losses: held_out.csv of each proxy.
        schedules: schedule.csv of each proxy.
        summaries: run.json of each proxy.
        packed: folders of the proxies' mixtures.
        page: advice to write (Markdown).
        overlay: the recommended run to write (YAML).
        laws: the fitted laws, to write (JSON).
        proxies: starts and ends of the proxies' curves beside the law's ends, to write (CSV).
        settings: predictions of all full runs, to write (CSV).
        figure: files of the Pareto front to write.
    """
    proxy_curves = [
        advice.proxy_curves(*files) for files in zip(points, held_out_losses, schedules, strict=True)
    ]
    curves = {corpus: [proxy[corpus] for proxy in proxy_curves] for corpus in corpora}
    fitted = {corpus: fit_law(curves[corpus], seed) for corpus in corpora}
    both = fitted[corpora[0]], fitted[corpora[1]]
    read = [read_json(path) for path in summaries]
    ledgers = {ledger["mixture"]: ledger for ledger in (read_json(path / "ledger.json") for path in packed)}
    areas = [advice.read_areas(path) for path in schedules]
    weighed = advice.full_settings(points, areas, read, ledgers, both, corpora[0])
    best = advice.front(weighed)
    chosen, reasons = advice.choose(weighed, both, most_forgetting)
    write_text(overlay, advice.overlay_of(chosen, place, like, maximum_epochs, reasons))
    facts = advice.facts(curves, read) | {"overlay": overlay, "most_forgetting": most_forgetting}
    write_text(page, advice_page(weighed, best, chosen, reasons, both, facts))
    write_rows(proxies, advice.PROXY_COLUMNS, advice.proxy_rows(points, curves, fitted))
    write_rows(settings, advice.SETTING_COLUMNS, advice.setting_rows(weighed, best))
    with style.figure(3.6, figure) as drawn:
        draw_front(drawn, weighed, best, chosen, both, (corpora[0], corpora[1]))
    plain = {corpus: advice.law_to_json(law) for corpus, law in fitted.items()}
    write_json(laws, {"laws": plain, "provenance": provenance({"points": points}, {"bootstrap": seed})})
    logging.log(NOTICE, "advice: %s", f"{page}, {overlay}" if chosen else f"no recommendation. {reasons[0]}")


if __name__ == "__main__":
    run(advise)
