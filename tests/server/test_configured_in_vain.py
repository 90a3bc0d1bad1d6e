"""What the log says of a model directory that can be served, but not quite as it was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from server.config import LimitsConfig, ServerConfig
from server.loading import load_models
from server.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx

    from server.serving import ServedModel
    from tests.server.conftest import LstmModel, MakeModel

VAIN = """max_batch_size: 2
version_policy { all { } }
response_cache { enable: true }
parameters { key: "tempo" value { string_value: "1" } }
"""


@pytest.fixture
def models() -> Iterator[list[ServedModel]]:
    served: list[ServedModel] = []
    yield served
    for model in served:
        model.stop()


async def said(path: Path, models: list[ServedModel]) -> list[dict[str, Any]]:
    """Warnings while the model is loaded; `models` are known before and complete afterwards."""
    limits = LimitsConfig(max_sessions=4)
    config = ServerConfig(repository=path.parent, provider="cpu", limits=limits)
    with capture_logs() as logs:
        loaded = await load_models(path, config, Serving(4), models)
    models.extend(model for model in loaded if model not in models)
    return [entry for entry in logs if entry["log_level"] == "warning"]


async def test_fields_without_effect_once_for_all_versions(
    make_model: MakeModel, affine_model: onnx.ModelProto, models: list[ServedModel]
) -> None:
    path = make_model("affine", VAIN, affine_model, affine_model)
    [entry] = await said(path, models)
    assert len(models) == 2
    assert (entry["event"], entry["model"]) == ("configured without effect", "affine")
    assert entry["fields"] == {
        "response_cache.enable": "there is no cache",
        "parameters: tempo": "nobody reads it here",
    }


async def test_not_again_when_nothing_has_changed(
    make_model: MakeModel, affine_model: onnx.ModelProto, models: list[ServedModel]
) -> None:
    path = make_model("affine", VAIN, affine_model)
    assert await said(path, models)
    assert await said(path, models) == []
    assert len(models) == 1


async def test_a_configuration_that_is_heeded_is_not_talked_about(
    make_model: MakeModel, lstm_model: LstmModel, lstm_config: str, models: list[ServedModel]
) -> None:
    assert await said(make_model("lstm", lstm_config, lstm_model()), models) == []


async def test_inputs_that_look_like_states(
    make_model: MakeModel, lstm_model: LstmModel, models: list[ServedModel]
) -> None:
    path = make_model("lstm", None, lstm_model())
    [entry] = await said(path, models)
    assert entry["event"] == (
        "served without states, though there are outputs of the same shape as these inputs, as a"
        f" state's next value has: h, c; `rnnserve inspect {path}/1/model.onnx` tells more"
    )
    [model] = models
    assert [tensor.name for tensor in model.spec.inputs] == ["frames", "h", "c"]


async def test_versions_that_are_not_there(
    make_model: MakeModel, affine_model: onnx.ModelProto, models: list[ServedModel]
) -> None:
    text = "version_policy { specific { versions: [ 1, 2, 7 ] } }"
    path = make_model("affine", text, affine_model, affine_model)
    (path / "007").mkdir()
    assert [entry["event"] for entry in await said(path, models)] == [
        "version_policy.specific: version 7 is not there; present: [1, 2]",
        "directory '007' is no version; expected a number from 1 on, without zeros before",
    ]
    assert [model.spec.version for model in models] == [1, 2]
