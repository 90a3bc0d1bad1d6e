"""What may be given for an input of some dtype, and what comes out of an answer."""

import numpy as np
import pytest

from rnnserve._codec import Codec
from rnnserve._dtypes import DTYPES, as_dtype
from rnnserve._shapes import Layout
from rnnserve.errors import RnnserveError
from rnnserve.specs import Signature, TensorSpec, tensor_specs
from rnnserve.v1 import session_pb2 as pb


def codec_of(inputs, outputs):
    """Of a session of one row."""
    return Codec(Signature("m", "1", "ab", True, inputs, outputs, (), ()), 1)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        ([1, 2], "f4"),
        ([1.5, 2.0], "f4"),
        (np.float64([1.5]), "f2"),
        (np.float32([1.5]), "f8"),
        (np.int64([1, -2]), "f4"),
        (np.array([1.5], ">f4"), "f4"),
        ([True, False], "f4"),
        ([True, False], "?"),
        ([1, 255], "u1"),
        (np.uint64([7]), "i1"),
        (np.float32([np.nan, np.inf]), "f2"),
        (2.5, "f4"),
    ],
)
def test_conversions_that_keep_the_values(value, dtype):
    array = as_dtype(value, np.dtype(dtype), "input 'x'")
    assert array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(array, np.asarray(value))


@pytest.mark.parametrize(
    ("value", "dtype", "error", "message"),
    [
        ([1.5], "i4", TypeError, "expected int32, given float64"),
        ([1.0], "i8", TypeError, "expected int64, given float64"),
        ([1], "?", TypeError, "expected bool, given int64"),
        ([1j], "f4", TypeError, "expected float32, given complex128"),
        (["a"], "f4", TypeError, "expected float32, given str"),
        ([None], "f4", TypeError, "expected float32, given object"),
        ([300], "u1", ValueError, "a value does not fit into uint8"),
        ([-1], "u8", ValueError, "a value does not fit into uint64"),
        ([2**40], "i4", ValueError, "a value does not fit into int32"),
        ([1e300], "f4", ValueError, "a value is too large for float32"),
        ([[1], [1, 2]], "f4", ValueError, "not an array"),
    ],
)
def test_conversions_that_would_not(value, dtype, error, message):
    with pytest.raises(error, match=f"^input 'x': {message}"):
        as_dtype(value, np.dtype(dtype), "input 'x'")


def test_an_array_of_the_right_dtype_is_not_copied():
    array = np.zeros((2, 3), np.float32)
    assert as_dtype(array, DTYPES["FP32"], "input 'x'") is array


def test_anything_numpy_makes_an_array_of_will_do():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            return np.float32([1, 2])

    assert as_dtype(Tensor(), DTYPES["FP32"], "input 'x'").tolist() == [1.0, 2.0]


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_goes_over_the_wire_and_back(datatype):
    spec = TensorSpec("x", DTYPES[datatype], (-1, -1, 4), 1)
    codec = codec_of((spec,), (spec,))
    x = np.array([[[1, 0, 1, 1], [0, 0, 1, 0]]]).astype(DTYPES[datatype])
    request = pb.StepRequest()
    asked = codec.put_step(request, x, {}, True, False)
    assert request.inputs[0].datatype == datatype
    output = codec.read_step(pb.StepResponse(outputs=request.inputs), asked)
    assert output.dtype == x.dtype
    np.testing.assert_array_equal(output, x)


def test_arrays_that_are_not_contiguous_are_sent_in_order():
    spec = TensorSpec("x", DTYPES["FP32"], (-1, -1, 2), 1)
    x = np.arange(12, dtype=np.float32).reshape(2, 6).T[::2]  # (3, 2), strided
    request = pb.StepRequest()
    codec_of((spec,), (spec,)).put_step(request, x, {}, False, False)
    sent = np.frombuffer(request.inputs[0].contents, np.float32).reshape(3, 2)
    np.testing.assert_array_equal(sent, x)


def test_outputs_are_the_caller_s_own(client):
    with client.session("sums") as session:
        output = session.step([1, 2, 3])
        output += 1  # writable, and of no effect on the session
        np.testing.assert_array_equal(output, [7, 13])
        np.testing.assert_array_equal(session.step([0, 0, 0]), [6, 12])


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([], "the server sent no output y"),
        (
            [pb.Tensor(name="y", datatype="FP32", shape=(1, 2), contents=b"1234")],
            "does not hold together",
        ),
        (
            [pb.Tensor(name="y", datatype="FP32", shape=(1, 2), contents=b"0123456789ab")],
            r"12 bytes for shape \(1, 2\)",
        ),
        ([pb.Tensor(name="y", datatype="BF99", shape=(1,), contents=b"1234")], "BF99"),
    ],
)
def test_answers_that_make_no_sense(outputs, message):
    spec = TensorSpec("y", DTYPES["FP32"], (-1, 2))
    codec = codec_of((spec,), (spec,))
    asked = codec.put_step(pb.StepRequest(), np.zeros((1, 2), np.float32), {}, False, False)
    assert asked.layout == Layout(True, None)
    with pytest.raises(RnnserveError, match=message):
        codec.read_step(pb.StepResponse(outputs=outputs), asked)


def test_a_name_that_the_model_does_not_have():
    specs = tuple(TensorSpec(name, DTYPES["FP32"], (-1, 2)) for name in "ab")
    codec = codec_of(specs[:1], specs)
    asked = codec.put_step(pb.StepRequest(), [[0, 0]], {}, False, False)
    answer = pb.StepResponse(outputs=[pb.Tensor(name="c", datatype="FP32", shape=(1, 2))])
    with pytest.raises(RnnserveError, match="'c'"):
        codec.read_step(answer, asked)


def test_a_datatype_without_a_dtype_is_unsupported():
    with pytest.raises(RnnserveError, match="tensor 'words': no numpy dtype for 'BYTES'"):
        tensor_specs([pb.TensorSpec(name="words", datatype="BYTES", shape=(-1,))])
