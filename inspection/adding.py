"""A foreign model into a repository: guess, write aside, prove, move into place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inspection import entry
from inspection.config import config_text
from inspection.errors import Refused
from inspection.findings import find
from inspection.proof import prove
from inspection.staging import publish

if TYPE_CHECKING:
    from pathlib import Path

    from inspection.choices import Choices
    from inspection.findings import Findings
    from inspection.proof import Proof


def add(
    path: Path,
    repository: Path,
    choices: Choices,
    *,
    name: str | None,
    max_batch_size: int,
    idle_seconds: float,
    replace: bool,
) -> tuple[Path, Findings, Proof]:
    """The new entry, what was found, and the proof.

    Raises Refused and NotProven; the repository is then as it was.
    """
    name = entry.name_for(path, name)
    findings = find(path, choices)
    if findings.needs_sizes:
        raise Refused(
            f"{path}: {', '.join(findings.needs_sizes)}: a state's axis of any size, and nobody but"
            f" you knows which it has: say {findings.missing}"
        )
    if findings.needs:
        raise Refused(
            f"{path}: {', '.join(findings.needs)}: one number for a whole batch, of which nobody"
            f" but you knows the value: say {findings.missing}, or --max-batch-size 0 to send it"
            " with every request"
        )
    text = config_text(findings, max_batch_size, idle_seconds)
    with entry.staged(repository, name, replace=replace) as folder:
        entry.write(folder, findings.model, findings.constants, text)
        proof = prove(folder, findings)
        publish(folder, repository / name, Refused)
    return repository / name, findings, proof
