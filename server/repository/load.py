"""A model directory as validated specs, one for each version to serve."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from server.errors import StartupError
from server.repository import hints, scan
from server.repository.completion import complete_batch, complete_states, complete_tensors
from server.repository.config import (
    IDLE_US,
    METADATA_KEY,
    MODEL_FILE,
    fill_in,
    parse,
    read_text,
    says_batch_size,
)
from server.repository.constants import take_constants
from server.repository.controls import control_specs
from server.repository.fields import check_fields, without_effect
from server.repository.instances import instance_count
from server.repository.interface import (
    check_batch,
    check_roles,
    describe,
    input_specs,
    output_specs,
)
from server.repository.onnx_file import read_onnx
from server.repository.options import run_options
from server.repository.parameters import check_axes, check_names, read_parameters
from server.repository.pieces import of_any_length, piece_of
from server.repository.problem import Problem
from server.repository.queueing import check_queueing
from server.repository.sequences import check_strategy
from server.repository.spec import ModelSpec
from server.repository.states import state_specs
from server.repository.warmup import warmup_samples, warmup_shapes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from server.repository.onnx_file import OnnxFile
    from server.repository.spec import FixedInput, StateSpec, TensorSpec
    from server.stubs.inference.model_config_pb2 import ModelConfig


@dataclass(frozen=True, slots=True)
class _Source:
    """A configuration as found. `where` names the file that it stands in."""

    text: str
    where: str
    config: ModelConfig

    @classmethod
    def of(cls, text: str, where: str) -> _Source:
        """Raises StartupError."""
        return cls(text, where, parse(text, where))


def load(model_dir: Path) -> list[ModelSpec]:
    """The versions that `model_dir` serves, ascending. Raises StartupError: one line that names
    the file, the field, what stands there and what was expected.
    """
    model_dir = model_dir.absolute()  # not resolved: a link's own name is the model's
    present = scan.versions(model_dir)
    path = model_dir / scan.CONFIG
    if path.is_file():
        first = _Source.of(read_text(path), str(path))
        specs = [_version(model_dir, version, first) for version in _choose(first, present)]
    elif present:
        # each version brings its own, or has none; which versions, the latest one says
        first = _from_metadata(model_dir, present[-1])
        specs = [
            _version(model_dir, version, _from_metadata(model_dir, version))
            for version in _choose(first, present)
        ]
    else:
        raise StartupError(f"{model_dir}: neither {scan.CONFIG} nor a version directory")
    common = tuple(hints.of_directory(model_dir, present, first.config))
    return [replace(spec, hints=(*common, *spec.hints)) for spec in specs]


def _choose(source: _Source, present: list[int]) -> list[int]:
    try:
        return scan.choose(present, source.config.version_policy)
    except Problem as problem:
        raise StartupError(f"{source.where}: {problem}") from None


def _from_metadata(model_dir: Path, version: int) -> _Source:
    path = _onnx_path(model_dir / str(version), MODEL_FILE)
    text = read_onnx(path).metadata.get(METADATA_KEY)
    if text is None:
        return _Source.of("", f"{path}, without {scan.CONFIG}")
    return _Source.of(text, f"{path}, metadata {METADATA_KEY}")


def _version(model_dir: Path, version: int, source: _Source) -> ModelSpec:
    try:
        check_fields(source.config)
        config = fill_in(source.config, model_dir.name)
        path = _onnx_path(model_dir / str(version), config.default_model_filename)
        model = read_onnx(path)
        spec = _spec(config, model, version, model_dir, source.text)
        return replace(
            spec,
            without_effect=without_effect(source.config),
            hints=(*hints.of_graph(source.config, model), *hints.of_states(source.config)),
        )
    except Problem as problem:
        raise StartupError(f"{source.where}: {problem}") from None


def _onnx_path(version_dir: Path, filename: str) -> Path:
    if PurePath(filename).name != filename:
        raise Problem(f"default_model_filename: {filename!r}; expected a file in {version_dir}")
    path = version_dir / filename
    return path / MODEL_FILE if path.is_dir() else path  # a large model, beside its external data


def _spec(
    config: ModelConfig, model: OnnxFile, version: int, model_dir: Path, config_text: str
) -> ModelSpec:
    parameters = read_parameters(config)
    if not says_batch_size(config_text):
        complete_batch(config, model, parameters)
    check_strategy(config)
    check_axes(parameters, config)
    fixed, constants = take_constants(config, parameters, model, model_dir)
    controls = control_specs(config, model)
    fed = [*parameters.constants, *(control.tensor.name for control in controls)]
    complete_states(config, model, parameters)
    complete_tensors(config, model, parameters, fed)
    states = state_specs(config, parameters, model, model_dir)
    inputs = input_specs(config, model, parameters)
    outputs = output_specs(config, model, parameters, states, model_dir)
    check_names(parameters, config)
    check_roles(
        model,
        [
            *((tensor.name, "input") for tensor in inputs),
            *((state.name, "state") for state in states),
            *((control.tensor.name, "control_input") for control in controls),
            *((name, "rnnserve.constant") for name in parameters.constants),
        ],
    )
    piece = piece_of(inputs) if parameters.may_be_cut else None
    if piece is not None:
        inputs, outputs = of_any_length(inputs), of_any_length(outputs)
    describe(config, inputs, constants, outputs)
    spec = ModelSpec(
        name=config.name,
        version=version,
        onnx_path=model.path,
        digest=_digest(model, config_text, fixed, states, outputs),
        max_batch_size=config.max_batch_size,
        inputs=inputs,
        outputs=outputs,
        states=states,
        constants=constants,
        idle_s=(config.sequence_batching.max_sequence_idle_microseconds or IDLE_US) / 1e6,
        may_be_cut=parameters.may_be_cut,
        piece=piece,
        options=run_options(config),
        instances=instance_count(config),
        config=config,
        fixed=fixed,
        controls=controls,
    )
    check_batch(spec)
    check_queueing(config)
    return replace(
        spec,
        warmup=warmup_shapes(config, spec),
        samples=warmup_samples(config, spec, model_dir),
    )


def _digest(
    model: OnnxFile,
    config_text: str,
    fixed: Iterable[FixedInput],
    states: Iterable[StateSpec],
    outputs: Iterable[TensorSpec],
) -> str:
    """Of all that decides what the model does: values may stand in files of their own."""
    digest = hashlib.sha256(model.sha256 + config_text.encode())
    for constant in fixed:
        digest.update(constant.value.tobytes())
    for state in states:
        if state.initial.any():
            digest.update(state.initial.tobytes())
    for output in outputs:
        digest.update("\n".join(output.labels).encode())
    return digest.hexdigest()
