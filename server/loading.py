"""From a model directory to models that are ready to take sessions."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from server.engine.engine import Engine
from server.engine.pacing import measured_chunk
from server.repository.instance_groups import tell_device
from server.repository.load import load
from server.serving import ServedModel, limits_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from server.config import ServerConfig
    from server.core.ledger import Limits
    from server.repository.spec import ModelSpec
    from server.serving import Serving

log = structlog.get_logger()

OWN_THREAD = {"auto": None, "own": True, "shared": False}


async def load_models(
    directory: Path, config: ServerConfig, serving: Serving, known: Iterable[ServedModel] = ()
) -> list[ServedModel]:
    """The versions that `directory` serves. One that is the same as one of the `known` is that.

    Everything that takes long is done on another thread. Raises StartupError; then none is loaded.
    """
    same = {(model.spec.version, model.spec.digest): model for model in known}
    specs = await asyncio.to_thread(load, directory)
    _tell(spec for spec in specs if (spec.version, spec.digest) not in same)
    models, made = [], []
    try:
        for spec in specs:
            model = same.get((spec.version, spec.digest))
            if model is None:
                model = await _served(spec, config, serving)
                made.append(model)
            models.append(model)
    except BaseException:
        for model in made:
            model.stop()
        raise
    return models


def _tell(specs: Iterable[ModelSpec]) -> None:
    """What whoever set up the model should know, once where versions share a configuration."""
    told = set()
    for spec in specs:
        fields = dict(spec.without_effect)
        if fields and repr(fields) not in told:
            log.warning("configured without effect", model=spec.name, fields=fields)
        for hint in spec.hints:
            if hint not in told:
                log.warning(hint, model=spec.name)
        told |= {repr(fields), *spec.hints}


async def _served(spec: ModelSpec, config: ServerConfig, serving: Serving) -> ServedModel:
    """Raises StartupError."""
    started_s = time.monotonic()
    engine, limits = await asyncio.to_thread(_engine, spec, config)
    tell_device(spec.config, engine.gpu)
    log.info(
        "model ready",
        model=spec.name,
        version=spec.version,
        device=engine.device,
        states=len(spec.states),
        bytes_per_session=spec.state_nbytes,
        max_chunk=limits.max_chunk,
        instances=limits.instances,
        seconds=round(time.monotonic() - started_s, 2),
    )
    own_thread = OWN_THREAD[config.engine_thread]
    return ServedModel(spec, engine, limits, serving.closed, own_thread=own_thread)


def _engine(spec: ModelSpec, config: ServerConfig) -> tuple[Engine, Limits]:
    limits = limits_of(spec, config.limits)
    engine = Engine(
        spec,
        provider=config.provider,
        rows=limits.arena_rows,
        intra_op_threads=config.intra_op_threads,
        instances=limits.instances,
    )
    if engine.instances < limits.instances:
        log.warning(
            "one instance only",
            model=spec.name,
            device=engine.device,
            instance_group=limits.instances,
        )
        limits = replace(limits, instances=engine.instances)
    if limits.max_chunk and not spec.piece and not config.limits.max_chunk:
        limits = replace(limits, max_chunk=measured_chunk(engine, otherwise=limits.max_chunk))
    return engine, limits
