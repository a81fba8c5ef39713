"""A LaTeX document includes Table 1 and the figures unchanged."""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from cpt.report import style
from cpt.report.tables import Table1, write_latex
from cpt.report.training_figures import draw_losses

DOCUMENT = r"""
\documentclass{article}
\usepackage{booktabs,threeparttable,graphicx}
\begin{document}
See Table~\ref{tab:scores}.
\input{table1}
\begin{figure}
\centering
\includegraphics[width=\linewidth]{figure1}
\caption{Loss.}
\end{figure}
\end{document}
"""


@pytest.mark.skipif(
    not shutil.which("pdflatex"), reason="NOT TESTED: install pdflatex (texlive-latex-recommended)"
)
def test_latex_sets_table_and_figure(experiment: SimpleNamespace, tmp_path: Path) -> None:
    model = "owner/model_with #odd & names, 100 %"
    table = Table1(experiment.scores, experiment.runs, experiment.table_tasks, model, experiment.published)
    write_latex(tmp_path / "table1.tex", table)
    with style.figure(2.6, [tmp_path / "figure1.pdf"]) as drawn:
        draw_losses(drawn, [(np.arange(3), np.array([3.0, 2.5, 2.4]))], {"run": 9})
    (tmp_path / "document.tex").write_text(DOCUMENT)
    for _ in range(2):  # the second time with the reference
        result = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert result.returncode == 0, result.stdout[-2000:]
    assert "undefined" not in result.stdout
    assert "Overfull" not in result.stdout  # the table fits the narrow text of LaTeX's article
    assert (tmp_path / "document.pdf").stat().st_size > 20_000
