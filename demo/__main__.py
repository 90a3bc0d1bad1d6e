"""The main job from end to end: train, export, serve, and stream every test utterance.

    python -m demo

Exits with 1 if torch, the ONNX file and the server disagree or are not good enough, and says where.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo.predict import Streamed, with_onnx, with_server, with_torch
from demo.server_process import RNNSERVE, ServerFailed, ServerProcess
from models.datasets import Split, japanese_vowels

if TYPE_CHECKING:
    from demo.predict import Arrays

FOLDER = Path(".demo")
RUN, REPOSITORY = FOLDER / "runs" / "vowels", FOLDER / "repository"
LEAST_ACCURACY = 0.95
LARGEST_DIFFERENCE = 1e-5

console = Console()


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    command("train", "vowels", "--output", str(RUN))
    command("export", str(RUN), "--repository", str(REPOSITORY))
    _, test = japanese_vowels()
    offline = {
        "torch, whole": with_torch(RUN, test.frames),
        "ONNX file, whole": with_onnx(REPOSITORY / "vowels" / "1" / "model.onnx", test.frames),
    }
    streamed = stream(test)
    report(test, {**offline, "served, frame by frame": streamed.outputs}, streamed)
    problems = compare(test, offline["torch, whole"], "ONNX file", offline["ONNX file, whole"])
    problems += compare(test, offline["torch, whole"], "server", streamed.outputs)
    for problem in problems[:5]:
        console.print(f"[bold red]wrong:[/] {problem}", highlight=False)
    if not problems:
        console.print("torch, the ONNX file and the server agree on every utterance.")
        console.print(f"Next: rnnserve serve --repository {REPOSITORY}", highlight=False)
    return 1 if problems else 0


def command(*arguments: str) -> None:
    """Show an rnnserve command and run it. Exits with its code if it fails."""
    console.print(f"\n[bold]$ rnnserve {' '.join(arguments)}[/]", highlight=False)
    code = subprocess.run([RNNSERVE, *arguments], check=False).returncode
    if code != 0:
        sys.exit(code)


def stream(test: Split) -> Streamed:
    """Serve the repository and play the utterances to it."""
    console.print(f"\n[bold]$ rnnserve serve --repository {REPOSITORY}[/]", highlight=False)
    try:
        with ServerProcess(REPOSITORY, FOLDER / "server.log") as server, _progress() as progress:
            progress.console.print(f"model on {server.models[0]['device']}, gRPC on {server.grpc}")
            steps = sum(map(len, test.frames))
            task = progress.add_task(f"{len(test)} sessions at once", total=steps)
            return with_server(server.grpc, "vowels", test.frames, lambda: progress.advance(task))
    except ServerFailed as error:
        console.print(f"[bold red]the server did not start:[/] {error}")
        sys.exit(1)


def report(test: Split, ways: dict[str, Arrays], streamed: Streamed) -> None:
    table = Table(title="\nJapanese Vowels, 370 test utterances", title_justify="left")
    table.add_column("")
    for heading in ("accuracy", "largest difference to torch"):
        table.add_column(heading, justify="right")
    truth = ways["torch, whole"]
    for name, outputs in ways.items():
        table.add_row(name, f"{accuracy(test, outputs):.4f}", f"{difference(truth, outputs):.1e}")
    console.print(table)
    steps = len(streamed.latencies_s)
    console.print(
        f"{steps} session-steps in {streamed.seconds:.1f} s, one message each: "
        f"{steps / streamed.seconds:.0f} per second; "
        f"p50 {streamed.percentile_ms(50):.0f} ms, p99 {streamed.percentile_ms(99):.0f} ms "
        "with all sessions at once",
        highlight=False,
    )


def compare(test: Split, truth: Arrays, name: str, outputs: Arrays) -> list[str]:
    """What is wrong with `outputs`, a line each; nothing if they predict what `truth` does."""
    problems = []
    for index, (expected, got) in enumerate(zip(truth, outputs, strict=True)):
        if expected[-1].argmax() != got[-1].argmax():
            problems.append(f"{name} predicts another speaker for utterance {index}")
        errors = np.abs(expected - got).max(axis=-1)
        if errors.max() > LARGEST_DIFFERENCE:
            problems.append(
                f"{name} differs by {errors.max():.1e} in utterance {index}, first at frame "
                f"{int(np.argmax(errors > LARGEST_DIFFERENCE))}"
            )
    reached = accuracy(test, outputs)
    if reached < LEAST_ACCURACY:
        problems.append(f"{name} reaches accuracy {reached:.4f}, expected {LEAST_ACCURACY} or more")
    return problems


def accuracy(test: Split, outputs: Arrays) -> float:
    """Share of utterances whose last frame names the right speaker."""
    predicted = np.array([probabilities[-1].argmax() for probabilities in outputs])
    return float((predicted == test.labels).mean())


def difference(truth: Arrays, outputs: Arrays) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(truth, outputs, strict=True))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps"),
        TimeElapsedColumn(),
        console=console,
    )


if __name__ == "__main__":
    sys.exit(main())
