"""Numbers and tables of a plan, for people."""


def count(number: float) -> str:
    """A number for people: 400M, 1.25B, 17.5K."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return f"{number:.4g}"


def in_gigabytes(size: float) -> str:
    """Bytes in GB to three digits."""
    return f"{size / 1e9:.3g}"


def table(columns: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table, all columns but the first right-aligned, and an empty line."""
    marks = [" --- " if index == 0 else " ---: " for index in range(len(columns))]
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(marks)}|"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]
