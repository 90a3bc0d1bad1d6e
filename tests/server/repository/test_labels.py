from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from server.errors import StartupError
from server.repository.load import load

if TYPE_CHECKING:
    import onnx

    from tests.server.conftest import MakeModel

CONFIG = 'max_batch_size: 4\noutput { name: "y" data_type: TYPE_FP32 dims: [ 2 ] %s }'
LABELLED = CONFIG % "label_filename: '%s'"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("cat\r\ndog", ("cat", "dog")),
        ("black cat\n\nÄpfel\n", ("black cat", "", "Äpfel")),
        ("", ()),
    ],
)
def test_labels_are_the_lines_of_a_file_beside_the_versions(
    make_model: MakeModel, affine_model: onnx.ModelProto, text: str, labels: tuple[str, ...]
) -> None:
    path = make_model("m", LABELLED % "names/classes.txt", affine_model)
    (path / "names").mkdir()
    (path / "names" / "classes.txt").write_bytes(text.encode())
    [spec] = load(path)
    assert spec.outputs[0].labels == labels
    assert spec.config.output[0].label_filename == "names/classes.txt"
    (path / "names" / "classes.txt").write_text("others\n")
    assert load(path)[0].digest != spec.digest


def test_without_a_file_there_are_none(
    make_model: MakeModel, affine_model: onnx.ModelProto
) -> None:
    [spec] = load(make_model("m", CONFIG % "", affine_model))
    assert spec.outputs[0].labels == ()


@pytest.mark.parametrize(
    ("filename", "answer"),
    [
        ("nowhere", "label_filename {model}/nowhere: No such file or directory"),
        ("../nowhere", "label_filename '../nowhere'; expected a file in {model}"),
        ("/etc/hostname", "label_filename '/etc/hostname'; expected a file in {model}"),
        ("latin", "label_filename {model}/latin: 'utf-8' codec can't decode byte 0xc4"),
    ],
)
def test_files_that_cannot_be_had(
    make_model: MakeModel, affine_model: onnx.ModelProto, filename: str, answer: str
) -> None:
    path = make_model("m", LABELLED % filename, affine_model)
    (path / "latin").write_bytes("Ä".encode("latin-1"))
    with pytest.raises(StartupError) as caught:
        load(path)
    answer = answer.format(model=path)
    assert str(caught.value).startswith(f"{path}/config.pbtxt: output 'y': {answer}")
