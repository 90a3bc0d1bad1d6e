"""NVIDIA's perf_analyzer, unmodified, against a real server: clean runs, bit-exact answers under
load, and statistics that add up. `make test` fetches it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bench.libraries import Unavailable
from tests.endtoend import load_models, perf_analyzer
from tests.endtoend.load import OVERTAKEN, Load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.load_generator import Program

STREAMING = pytest.mark.parametrize("way", [(), ("--streaming",)], ids=["unary", "streaming"])
# It compares the answer that it still waits for with what it expects of the END sent meanwhile.
MIXED_UP = "had error: Output doesn't match expected output"


@pytest.fixture(scope="module")
def program() -> Program:
    try:
        return perf_analyzer.find()
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("load") / "repository"
    load_models.write(repository)
    return repository


@pytest.fixture(scope="module")
def serve(program: Program, models: Path, start: Any) -> Callable[..., Load]:
    def begin(*options: str) -> Load:
        return Load(program, start(models, *options).wait_until_serving())

    return begin


@pytest.fixture(scope="module")
def load(serve: Callable[..., Load]) -> Load:
    return serve()


@STREAMING
@pytest.mark.parametrize("sequences", [1, 4, 64, 256])
def test_so_many_sequences(load: Load, sequences: int, way: tuple[str, ...]) -> None:
    options = ("--concurrency-range", str(sequences), *way)
    report = load.clean("recall", *options)
    assert f"Concurrency: {sequences}, throughput: " in report.text


def test_one_level_of_load_after_the_other(load: Load) -> None:
    report = load.clean("recall", "--concurrency-range", "2:6:2", "--streaming")
    assert len(report.numbers("Sequence count")) == 3


@STREAMING
@pytest.mark.parametrize("order", [(), ("--serial-sequences",)], ids=["interleaved", "serial"])
def test_a_rate_of_requests(load: Load, order: tuple[str, ...], way: tuple[str, ...]) -> None:
    options = ("--request-rate-range", "300", "--num-of-sequences", "8", *order, *way)
    report = load.clean("recall", *options)
    assert "Request Rate: 300" in report.text


IDS = {
    "all in use": ("--sequence-length", "4", "--sequence-id-range", "100:104"),
    "of any length": ("--sequence-length", "10", "--sequence-length-variation", "90"),
    "of one request": ("--sequence-length", "1", "--sequence-id-range", "7:12"),
    "large": ("--sequence-id-range", "2147480000:2147483647"),
}


@STREAMING
@pytest.mark.parametrize("ids", IDS)
def test_ids_and_lengths(load: Load, ids: str, way: tuple[str, ...]) -> None:
    options = ("--concurrency-range", "4", *IDS[ids], *way)
    report = load.clean("recall", *options)
    (sequences,) = report.numbers("Sequence count")
    assert sequences > 5  # ids of the narrow ranges have come again


def test_compressed_requests_of_a_caller_to_a_version(load: Load) -> None:
    options = ("-x", "1", "-H", "rnnserve-caller:me", "--grpc-compression-algorithm", "gzip")
    load.clean("recall", *options, "--concurrency-range", "8", "--streaming")


# ---- bit-exact answers ---------------------------------------------------------------------------

LENGTHS = (20, 13, 8, 3, 2, 1)


def data_file(folder: Path, data: dict[str, Any]) -> tuple[str, str]:
    (folder / "data.json").write_text(json.dumps(data), encoding="utf-8")
    return "--input-data", str(folder / "data.json")


# In sync mode it waits for each answer before it sends the next request of a sequence.
VALIDATED = {
    "4 in turn": (("--concurrency-range", "4", "--sync"), ()),
    "64 in turn": (("--concurrency-range", "64", "--sync"), ()),
    "256 in turn": (("--concurrency-range", "256", "--sync"), ()),
    "64 at once": (("--concurrency-range", "64"), (MIXED_UP,)),
    "64 streamed": (("--concurrency-range", "64", "--streaming"), (MIXED_UP,)),
}


@pytest.mark.parametrize("case", VALIDATED)
def test_every_answer_is_right_to_the_last_bit(load: Load, tmp_path: Path, case: str) -> None:
    options, closing = VALIDATED[case]
    data = data_file(tmp_path, load_models.recall_data(LENGTHS))
    report = load.clean("recall", *data, *options, closing=closing)
    assert f"Successfully read data for {len(LENGTHS)} stream" in report.text


@pytest.mark.parametrize("case", ["4 in turn", "64 streamed"])
def test_one_wrong_bit_among_them_is_found(load: Load, tmp_path: Path, case: str) -> None:
    data = load_models.recall_data(LENGTHS)
    data["validation_data"][1][9]["y"][1] ^= 1
    options = (*data_file(tmp_path, data), *VALIDATED[case][0])
    report = load.report("recall", *options)
    assert report.exit_code != 0
    assert "Throughput" not in report.text


# ---- without sequences ---------------------------------------------------------------------------

STATELESS = {
    "alone": ((), 1),
    "rows": (("-b", "8", "--concurrency-range", "16"), 8),
    "async": (("-b", "3", "--async", "--percentile", "95", "--concurrency-range", "8"), 3),
    "streamed": (("-b", "64", "--streaming", "--concurrency-range", "4"), 64),
    "rate": (("-b", "2", "--request-rate-range", "200"), 2),
    "count": (("--measurement-mode", "count_windows", "--measurement-request-count", "50"), 1),
}


@pytest.mark.parametrize("case", STATELESS)
def test_a_model_without_states(load: Load, case: str) -> None:
    options, rows = STATELESS[case]
    load.clean("affine", *options, rows=rows)


def test_answers_of_many_rows_are_right(load: Load, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-(2**40), 2**40, (7, 3))
    steps, answers = (
        [{name: row.tolist()} for row in a] for name, a in (("x", x), ("y", 2 * x + 1))
    )
    options = data_file(tmp_path, {"data": steps, "validation_data": answers})
    load.clean("affine", *options, "-b", "4", "--concurrency-range", "8", rows=4)
    answers[6]["y"][2] += 1
    options = data_file(tmp_path, {"data": steps, "validation_data": answers})
    report = load.report("affine", *options, "-b", "4", "--concurrency-range", "8")
    assert report.exit_code != 0


def test_sequences_of_several_rows_are_not_what_it_sends(load: Load) -> None:
    report = load.report("recall", "-b", "2")
    assert report.exit_code != 0
    assert "can not specify batch size > 1 when using a sequence model" in report.text


def test_two_models_at_once(load: Load) -> None:
    sequences = load.begin("recall", "--concurrency-range", "16", "--streaming")
    rows = load.begin("affine", "-b", "8", "--concurrency-range", "16")
    load.end(rows, rows=8, is_last=False)
    load.end(sequences)


# ---- shared memory -------------------------------------------------------------------------------

SHARED = ("--shared-memory", "system", "--output-shared-memory-size", "4096")


@STREAMING
def test_sequences_in_shared_memory(load: Load, way: tuple[str, ...]) -> None:
    options = (*SHARED, "--concurrency-range", "16", *way)
    load.clean("recall", *options)


def test_rows_in_shared_memory(load: Load) -> None:
    load.clean("affine", *SHARED, "-b", "8", "--concurrency-range", "4", rows=8)


def test_many_steps_in_shared_memory(load: Load, tmp_path: Path) -> None:
    data = load_models.recall_data(LENGTHS)
    del data["validation_data"]  # it does not look for answers there
    options = (*data_file(tmp_path, data), *SHARED)
    load.clean("recall", *options, "--concurrency-range", "16", "--streaming")


# ---- other servers -------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_other_transports(serve: Callable[..., Load], tmp_path: Path, transport: str) -> None:
    load = serve("--transport", transport)
    data = data_file(tmp_path, load_models.recall_data(LENGTHS))
    load.clean("recall", *data, "--concurrency-range", "64", "--sync")
    # they may begin an END before the step that was sent before it
    load.clean("recall", "--concurrency-range", "256", closing=(OVERTAKEN,))
    load.clean("recall", "--concurrency-range", "64", "--streaming")
    load.clean("affine", "-b", "8", "--concurrency-range", "16", rows=8)


def test_two_processes(serve: Callable[..., Load], tmp_path: Path) -> None:
    load = serve("--processes", "2")
    data = data_file(tmp_path, load_models.recall_data(LENGTHS))
    load.clean("recall", *data, "--concurrency-range", "32", "--sync")
    load.clean("recall", "--concurrency-range", "16", "--streaming")
