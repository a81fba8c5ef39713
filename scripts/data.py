from pathlib import Path

from cpt.command import run
from cpt.report.data import COLUMNS, data_rows, read_steps
from cpt.report.rows import write_rows


def data(statistics: Path, table: Path) -> None:
    """Write a table of what every data stage removed and left of each corpus (paper section 3.2).

    Args:
        statistics: corpora/statistics.csv.
        table: data.csv to write.
    """
    write_rows(table, COLUMNS, data_rows(read_steps(statistics)))


if __name__ == "__main__":
    run(data)
