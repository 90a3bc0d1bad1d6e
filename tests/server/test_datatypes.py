from __future__ import annotations

import pytest
from onnx import TensorProto, helper

from server import datatypes
from server.stubs.inference import model_config_pb2 as config_pb2


@pytest.mark.parametrize("row", datatypes.DATATYPES, ids=lambda row: row.name)
def test_a_type_is_found_under_each_of_its_names(row: datatypes.Datatype) -> None:
    assert datatypes.BY_NAME[row.name] is row
    assert datatypes.of_onnx(row.onnx) is row
    assert datatypes.of_config(row.config) is row
    assert row.config_name == f"TYPE_{row.name}"
    # onnx' own table agrees
    assert helper.tensor_dtype_to_np_dtype(row.onnx) == row.dtype


def test_every_type_of_the_configuration_is_served_or_refused_by_name() -> None:
    refused = set(config_pb2.DataType.values()) - {row.config for row in datatypes.DATATYPES}
    assert {config_pb2.DataType.Name(number) for number in refused} == {
        "TYPE_INVALID",
        "TYPE_STRING",
        "TYPE_BF16",
    }


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (config_pb2.TYPE_INVALID, "data_type missing"),
        (config_pb2.TYPE_STRING, "data_type TYPE_STRING is not supported"),
        (config_pb2.TYPE_BF16, "data_type TYPE_BF16 is not supported"),
        (99, "data_type 99 is not supported"),
    ],
)
def test_what_is_not_served_says_so(number: int, text: str) -> None:
    with pytest.raises(datatypes.UnsupportedDatatype, match=f"^{text}$"):
        datatypes.of_config(number)


def test_onnx_types_that_are_not_served_are_named() -> None:
    for elem_type, name in ((TensorProto.STRING, "STRING"), (TensorProto.BFLOAT16, "BFLOAT16")):
        with pytest.raises(datatypes.UnsupportedDatatype, match=f"^type {name} is not supported$"):
            datatypes.of_onnx(elem_type)
    with pytest.raises(datatypes.UnsupportedDatatype, match=r"^type 999 is"):
        datatypes.of_onnx(999)
