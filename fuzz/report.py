"""What a run looks like while it lasts, and what is told of it afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from rich.console import Console

    from fuzz.tally import Finding, Tally

MAX_SHOWN = 600  # characters of a finding; all of it is in its file
BAD = {"INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED", "DATA_LOSS"}


def progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width=10),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rate]:.0f} requests/s [dim]{task.fields[seen]}"),
        console=console,
    )


def seen(tally: Tally) -> str:
    """The statuses so far, in a few words."""
    most = tally.by_status().most_common(2)
    return ", ".join(f"{count} {status}" for status, count in most)


def table(tally: Tally) -> Table:
    """Kinds of requests by status."""
    kinds = sorted({kind for kind, _ in tally.counts})
    title = f"{tally.requests} requests"
    result = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    result.add_column("status", no_wrap=True)
    for kind in kinds:
        result.add_column(kind, justify="right")
    result.add_column("all", justify="right")
    for status, total in tally.by_status().most_common():
        cells = [str(tally.counts[kind, status] or "") for kind in kinds]
        result.add_row(status, *cells, str(total), style="bold red" if status in BAD else "")
    return result


def show(console: Console, finding: Finding, path: str) -> None:
    where = f"{finding.transport}, worker {finding.worker}, request {finding.number}"
    console.print(f"[bold red]wrong:[/] {where}: {finding.method}", highlight=False)
    console.print(
        f"  {finding.what[:MAX_SHOWN]}\n  all of it: {path}", markup=False, highlight=False
    )
