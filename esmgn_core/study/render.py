"""Write a table of a study as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from esmgn_core.printable import counted
from esmgn_core.study.results import lower_is_better
from esmgn_core.study.table import LEVEL, PROTEINS, SEEDS, Column, Entry, Table

FORMATS = ("text", "markdown", "latex", "csv")


def cell_rows(table: Table, *, bold: str = "{}") -> list[list[str]]:
    """The heading and one line for each row; the best entry of a column in ``bold``."""
    lines = [["", *(column.title for column in table.columns)]]
    for row in table.rows:
        line = [row]
        for column in table.columns:
            entry = table.entries.get((row, column))
            line.append(_cell(entry, bold) if entry else "")
        lines.append(line)
    return lines


def _cell(entry: Entry, bold: str) -> str:
    text = f"{entry.mean:.4g}" if abs(entry.mean) >= 10 else f"{entry.mean:.3f}"
    if entry.deviation is not None:
        text += f" ± {entry.deviation:.3f}"
    if entry.interval:
        text += f" [{entry.interval.low:.3f}, {entry.interval.high:.3f}]"
    text = bold.format(text) if entry.best else text
    if not entry.best and entry.p is not None and entry.p < LEVEL:
        text += " *"
    return f"{text} (published {entry.published.value:.3f})" if entry.published else text


def notes(table: Table) -> list[str]:
    """What the numbers are, one sentence a line."""
    entries = [*table.entries.values()]
    lines = []
    if any(entry.deviation is not None for entry in entries):
        lines.append("mean ± standard deviation over seeds")
    if any(entry.over == PROTEINS for entry in entries):
        lines.append("[low, high]: 95 % interval of the mean, by resampling the test proteins")
    if any(entry.over == SEEDS for entry in entries):
        lines.append("[low, high]: 95 % t interval of the mean over seeds")
    if table.num_tests:
        lines.append(
            f"*: differs from the best of its column (p < {LEVEL}, in pairs, corrected for "
            f"{counted(table.num_tests, 'test')} by Holm's method)"
        )
    lines += [f"lower {name} is better" for name in _lower(table)]
    lines += _comparisons(table)
    if table.num_missing:
        lines.append(f"{counted(table.num_missing, 'cell')} not done: see esmgn study status")
    return lines


def _lower(table: Table) -> list[str]:
    return sorted({column.metric for column in table.columns if lower_is_better(column.metric)})


def _comparisons(table: Table) -> Iterator[str]:
    """Sources of published values, and why they are not comparable."""
    found = {entry.published.source for entry in table.entries.values() if entry.published}
    yield from (f"published: {source}" for source in sorted(found))
    reasons: dict[str, list[str]] = {}
    for (row, column), entry in table.entries.items():
        if entry.published and entry.not_comparable:
            reasons.setdefault("; ".join(entry.not_comparable), []).append(f"{row}, {column.title}")
    for reason, places in reasons.items():
        yield f"not comparable with the published values: {reason} ({'; '.join(places)})"


def as_markdown(table: Table) -> str:
    """A Markdown table with notes."""
    lines = [[cell.replace("|", "\\|") for cell in line] for line in cell_rows(table, bold="**{}**")]
    rows = [f"| {' | '.join(line)} |" for line in lines]
    rows.insert(1, f"|{'---|' * len(lines[0])}")
    return "\n".join([*rows, "", *(f"- {note}" for note in notes(table))]) + "\n"


def as_latex(table: Table) -> str:
    """A LaTeX table for the package booktabs, with notes as comments."""
    lines = [[_latex(cell) for cell in line] for line in cell_rows(table, bold="\x01{}\x02")]
    rows = [f"{' & '.join(line)} \\\\" for line in lines]
    columns = "l" + "r" * len(table.columns)
    return "\n".join(
        [
            *(f"% {note}" for note in notes(table)),
            f"\\begin{{tabular}}{{{columns}}}",
            "\\toprule",
            rows[0],
            "\\midrule",
            *rows[1:],
            "\\bottomrule",
            "\\end{tabular}",
            "",
        ]
    )


def _latex(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, "\\textbackslash " if character == "\\" else f"\\{character}")
    return text.replace("±", "$\\pm$").replace("\x01", "\\textbf{").replace("\x02", "}")


_CSV_COLUMNS = (
    *(
        "row",
        "stage",
        "labels",
        "set",
        "metric",
        "seeds",
        "mean",
        "deviation",
        "low",
        "high",
        "interval_over",
    ),
    *("best", "p_corrected", "published", "not_comparable"),
)


def as_csv(table: Table) -> str:
    """One line for each entry, with all numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for (row, column), entry in table.entries.items():
        writer.writerow(_csv_row(row, column, entry))
    return text.getvalue()


def _csv_row(row: str, column: Column, entry: Entry) -> Sequence[object]:
    low, high = entry.interval or ("", "")
    return [
        *(
            row,
            column.stage,
            " ".join(column.labels),
            column.set,
            column.metric,
            len(entry.values),
            entry.mean,
        ),
        *("" if entry.deviation is None else entry.deviation, low, high, entry.over),
        *("yes" if entry.best else "", "" if entry.p is None else entry.p),
        *(entry.published.value if entry.published else "", "; ".join(entry.not_comparable)),
    ]
