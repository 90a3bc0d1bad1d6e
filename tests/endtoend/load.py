"""A run of perf_analyzer against a server of ours, and what must hold after every one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from server.stubs.inference import grpc_service_pb2 as oip
from server.stubs.inference import grpc_service_pb2_grpc
from tests.endtoend import perf_analyzer
from tests.endtoend.perf_analyzer import LIMIT_S

if TYPE_CHECKING:
    from subprocess import Popen

    from bench.load_generator import Program
    from tests.endtoend.perf_analyzer import Report

# When it stops, perf_analyzer sends END while the step before is under way. Transports that do not
# keep the order of unary calls may let END overtake that step, for which there is no sequence then,
# or START, whose sequence stays until it expires.
OVERTAKEN = "must specify the START flag on the first request of the sequence"
TIMES = ("queue", "compute_input", "compute_infer", "compute_output")


class Counts(NamedTuple):
    """What a model's statistics have gained."""

    success: int
    fail: int
    inferences: int
    executions: int
    times: dict[str, int]  # the counts of queue and compute
    batches: dict[int, int]  # runs by number of rows
    last_ms: int


class Running(NamedTuple):
    """A perf_analyzer at work, and what the server had counted before."""

    model: str
    process: Popen[str]
    before: oip.ModelStatistics
    sequences: int


class Load:
    """perf_analyzer and one server."""

    def __init__(self, program: Program, server: Any) -> None:
        self._program = program
        self.server = server

    def clean(
        self, model: str, *options: str, rows: int = 1, closing: tuple[str, ...] = ()
    ) -> Report:
        """Run it, and fail if anything is not as it should be: its exit code, its complaints, its
        figures, the server's statistics, its log, sequences that were left. `closing`: what it may
        complain of when it stops in the middle of its sequences, after the measurement.
        """
        process = self.begin(model, *options)
        return self.end(process, rows=rows, closing=closing)

    def report(self, model: str, *options: str) -> Report:
        """Of a run that needs not be clean."""
        process = perf_analyzer.begin(self._program, self.server.grpc, model, *options)
        return perf_analyzer.report_of(process)

    def begin(self, model: str, *options: str) -> Running:
        before, sequences = self._statistics(model), self._sequences()
        process = perf_analyzer.begin(self._program, self.server.grpc, model, *options)
        return Running(model, process, before, sequences)

    def end(
        self,
        running: Running,
        *,
        rows: int = 1,
        closing: tuple[str, ...] = (),
        is_last: bool = True,
    ) -> Report:
        """Wait for it, and judge it. `is_last`: nobody else loads the server meanwhile."""
        report = perf_analyzer.report_of(running.process)
        counts = gained(running.before, self._statistics(running.model))

        assert report.exit_code == 0, report.text
        complaints = [
            line for line in report.complaints if not any(text in line for text in closing)
        ]
        assert not complaints, report.text
        check_figures(report, counts, rows)
        assert counts.fail == 0
        check_counts(counts, rows)
        assert 0 <= time.time() * 1000 - counts.last_ms < LIMIT_S * 1000
        if is_last:
            self._is_at_rest(running.sequences + report.text.count(OVERTAKEN))
        return report

    def _is_at_rest(self, sequences: int) -> None:
        """Nothing waits, no more than so many sequences are there, nobody has logged trouble."""
        assert self.server.metric("rnnserve_pending_requests") == 0
        assert self._sequences() <= sequences
        troubles = [e for e in self.server.events() if e["level"] not in ("info", "debug")]
        assert not troubles
        assert "Traceback" not in self.server.stderr

    def _sequences(self) -> int:
        return int(self.server.metric("rnnserve_sessions"))

    def _statistics(self, model: str) -> oip.ModelStatistics:
        with grpc.insecure_channel(self.server.grpc) as channel:
            stub = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
            request = oip.ModelStatisticsRequest(name=model)
            (statistics,) = stub.ModelStatistics(request, timeout=10).model_stats
        return statistics


def gained(before: oip.ModelStatistics, after: oip.ModelStatistics) -> Counts:
    old, new = before.inference_stats, after.inference_stats
    sizes = {b.batch_size: b.compute_infer.count for b in before.batch_stats}
    return Counts(
        success=new.success.count - old.success.count,
        fail=new.fail.count - old.fail.count,
        inferences=after.inference_count - before.inference_count,
        executions=after.execution_count - before.execution_count,
        times={name: getattr(new, name).count - getattr(old, name).count for name in TIMES},
        batches={
            b.batch_size: b.compute_infer.count - sizes.get(b.batch_size, 0)
            for b in after.batch_stats
        },
        last_ms=after.last_inference,
    )


def check_counts(counts: Counts, rows: int) -> None:
    """What must hold of the counts of a model whose requests run in one piece, `rows` each."""
    assert counts.success > 0
    assert set(counts.times.values()) == {counts.success}
    assert counts.inferences == counts.success * rows
    assert sum(size * runs for size, runs in counts.batches.items()) == counts.inferences
    assert sum(counts.batches.values()) == counts.executions


def check_figures(report: Report, counts: Counts, rows: int) -> None:
    """What it has read from the server's statistics is there, and goes together with what it has
    seen itself, and with `counts` of the whole run, of which its windows are a part.
    """
    levels = report.numbers("Request count")
    succeeded = report.numbers("Successful request count")
    assert levels, report.text
    assert min(levels) > 0
    assert len(succeeded) == len(levels)
    assert sum(levels) <= counts.success
    assert sum(succeeded) <= counts.success
    assert report.numbers("Inference count") == [rows * n for n in succeeded]
    executions = report.numbers("Execution count")
    assert all(0 < some <= all_ for some, all_ in zip(executions, succeeded, strict=True))
    for latency in report.server_us():
        whole = latency.pop("all")
        assert abs(sum(latency.values()) - whole) <= len(latency)  # each is rounded
        assert latency["compute infer"] > 0
    assert len(report.server_us()) == len(levels)
