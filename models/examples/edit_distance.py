"""How far one sequence is from another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def edit_distance(one: Sequence[object], other: Sequence[object]) -> int:
    """The least number of insertions, deletions and substitutions that make `one` the `other`.

    V. I. Levenshtein, "Binary codes capable of correcting deletions, insertions, and reversals",
    1966. `row[j]` is the distance of what was read of `one` so far to the first j of `other`
    (R. A. Wagner, M. J. Fischer, "The String-to-String Correction Problem", 1974).
    """
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            substituted = diagonal + (a != b)
            diagonal, row[j] = row[j], min(substituted, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def error_rate(said: Sequence[Sequence[object]], right: Sequence[Sequence[object]]) -> float:
    """All edits that it takes to mend what was `said`, over the length of what is `right`."""
    edits = sum(edit_distance(s, r) for s, r in zip(said, right, strict=True))
    return edits / sum(map(len, right))
