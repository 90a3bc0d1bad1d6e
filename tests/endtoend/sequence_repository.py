"""A model repository of sequence models, with every kind of state, control and strategy that a
configuration can ask for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto

from tests.endtoend import sequence_models as models
from tests.endtoend.sequence_models import ALONE, BATCHED

if TYPE_CHECKING:
    from pathlib import Path

    from tests.endtoend.sequence_models import Rows

FLOAT = TensorProto.FLOAT
ZERO_AND_ONE = {
    TensorProto.INT32: "int32_false_true: [ 0, 1 ]",
    TensorProto.FLOAT: "fp32_false_true: [ 0, 1 ]",
    TensorProto.BOOL: "bool_false_true: [ false, true ]",
}


class Kinds(NamedTuple):
    """Types of a sum, of its flags, and of its id."""

    number: int = TensorProto.INT32
    flag: int = TensorProto.INT32
    id: int = TensorProto.UINT64


SUMS = {
    "sums_int32": Kinds(),
    "sums_fp32": Kinds(TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.INT64),
    "sums_bool": Kinds(TensorProto.INT32, TensorProto.BOOL, TensorProto.UINT32),
    "sums_int64": Kinds(TensorProto.INT64, TensorProto.INT32, TensorProto.INT32),
}
STRATEGIES = {
    "direct": "direct { }",
    "direct_full": "direct { max_queue_delay_microseconds: 100 minimum_slot_utilization: 0.5 }",
    "oldest": "oldest { }",
    "oldest_full": "oldest { max_candidate_sequences: 4 preferred_batch_size: [ 2, 4 ] "
    "max_queue_delay_microseconds: 100 preserve_ordering: true }",
    "counted": "",
    "brief": "",
}
IDLE_S = {"brief": 1}  # 60 for the others
ODD_FLAGS = {
    "START": "int32_false_true: [ 5, -1 ]",
    "READY": "int32_false_true: [ 0, 7 ]",
    "END": "int32_false_true: [ -3, 2 ]",
}


def write(root: Path) -> None:
    for name, kinds in SUMS.items():
        put(root, name, sums_config(kinds), models.sums(BATCHED, *kinds))
        put(root, f"{name}_alone", sums_config(kinds, ALONE), models.sums(ALONE, *kinds))
    for name, strategy in STRATEGIES.items():
        config = sums_config(Kinds(), more=strategy, idle_s=IDLE_S.get(name, 60))
        put(root, name, config, models.sums(BATCHED, *Kinds()))
    both = sums_config(Kinds()) + "version_policy { all { } }\n"
    put(root, "versions", both, *(models.sums(BATCHED, *Kinds(), times=n) for n in (1, 100)))
    flags = dict.fromkeys(models.FLAGS, ZERO_AND_ONE[TensorProto.INT32])
    for name, values in (("told", flags), ("odd_flags", ODD_FLAGS)):
        put(root, name, batched(sequences(controls(values, TensorProto.INT64))), models.told_only())
    put(root, "plain", batched(), models.plain())
    put(root, "kept_by_client", batched("sequence_batching { }"), models.plain())
    put(root, "slow", sequences(state("before", TensorProto.INT64)), models.slow())
    put(root, "two_inputs", batched(sequences(state("total"))), models.two_inputs())
    put(root, "any_size", batched(sequences(state("total", size=-1))), models.two_inputs("any"))
    _write_crossed(root)
    _write_counters(root)
    _write_from_files(root, "from_files", BATCHED)
    _write_from_files(root, "from_files_alone", ALONE)


def put(root: Path, name: str, config: str, *versions: onnx.ModelProto) -> Path:
    for number, model in enumerate(versions, start=1):
        (root / name / str(number)).mkdir(parents=True)
        onnx.save(model, root / name / str(number) / "model.onnx")
    (root / name / "config.pbtxt").write_text(config)
    return root / name


def sums_config(kinds: Kinds, rows: Rows = BATCHED, more: str = "", idle_s: int = 60) -> str:
    """All that a configuration has to say, where the others leave to the graph what they can."""
    values = dict.fromkeys(models.FLAGS, ZERO_AND_ONE[kinds.flag])
    return (
        f"max_batch_size: {8 if rows else 0}\n"
        + f"input {{ {tensor('x', kinds.number)} }}\n"
        + f"output {{ {tensor('sum', kinds.number)} }}\n"
        + f"output {{ {tensor('flags', TensorProto.DOUBLE, 3)} }}\n"
        + f"output {{ {tensor('id', kinds.id)} }}\n"
        + sequences(more, controls(values, kinds.id), state("total", kinds.number), idle_s=idle_s)
    )


def batched(*lines: str) -> str:
    return "\n".join(["max_batch_size: 8", *lines])


def sequences(*lines: str, idle_s: int = 60) -> str:
    idle = f"max_sequence_idle_microseconds: {idle_s}000000"
    return "\n".join(["sequence_batching {", idle, *lines, "}\n"])


def controls(values: dict[str, str], id_kind: int) -> str:
    said = values | {"CORRID": f"data_type: {type_name(id_kind)}"}
    return "\n".join(
        f'control_input {{ name: "{name}" control {{ kind: CONTROL_SEQUENCE_{name} {value} }} }}'
        for name, value in said.items()
    )


def state(name: str, kind: int = FLOAT, more: str = "", output: str = "", size: int = 1) -> str:
    """`name` → `name`_next, or another output."""
    pair = f'input_name: "{name}" output_name: "{output or f"{name}_next"}"'
    return f"state {{ {pair} data_type: {type_name(kind)} dims: [ {size} ] {more} }}"


def tensor(name: str, kind: int, size: int = 1) -> str:
    return f'name: "{name}" data_type: {type_name(kind)} dims: [ {size} ]'


def type_name(kind: int) -> str:
    """TYPE_FP32 and so on."""
    names = {"FLOAT": "FP32", "FLOAT16": "FP16", "DOUBLE": "FP64"}
    name = TensorProto.DataType.Name(kind)
    return f"TYPE_{names.get(name, name)}"


def _write_crossed(root: Path) -> None:
    """In an order that is neither the graph's nor any other; and once more with states shown."""
    states = sequences(*(state(n, output=o) for n, o in (("c", "o1"), ("a", "o3"), ("b", "o2"))))
    shown = [f"output {{ {tensor('seen', FLOAT, 3)} }}"]
    put(root, "crossed", batched(*shown, states), models.crossed())
    shown += [f"output {{ {tensor(name, FLOAT)} }}" for name in ("o2", "o3")]
    put(root, "crossed_shown", batched(*shown, states), models.crossed())


def _write_counters(root: Path) -> None:
    kinds = models.COUNTERS
    shown = [f"output {{ {tensor('seen', TensorProto.DOUBLE, len(kinds))} }}"]
    shown += [f"output {{ {tensor(f'{name}_next', kind)} }}" for name, kind in kinds.items()]
    states = sequences(*(state(name, kind) for name, kind in kinds.items()))
    put(root, "counters", batched(*shown, states), models.counters())


def _write_from_files(root: Path, name: str, rows: Rows) -> None:
    def initial(name: str, source: str) -> str:
        return f'initial_state {{ name: "{name}" data_type: TYPE_FP32 dims: [ 3 ] {source} }}'

    states = sequences(
        state("stored", FLOAT, initial("first", 'data_file: "three"'), size=-1),
        state("zero", FLOAT, initial("second", "zero_data: true"), size=-1),
        state("unsaid", FLOAT, size=3),
    )
    size = f"max_batch_size: {8 if rows else 0}\noutput {{ {tensor('seen', FLOAT, 9)} }}\n"
    directory = put(root, name, size + states, models.from_files(rows)) / "initial_state"
    directory.mkdir()
    (directory / "three").write_bytes(np.float32([7, -8, 0.5]).tobytes())
