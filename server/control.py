"""Loads models, replaces them and lets them go, while the server serves.

A load that fails leaves everything as it was. A model that is replaced or unloaded takes no new
sessions; those that it has go on until they are closed or the drain limit has passed. Loads of one
model are done one after the other, those of different models side by side.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import structlog

from server.catalogue import Report, State
from server.errors import (
    InvalidRequest,
    ModelControlOff,
    ModelNotFound,
    RequestError,
    ShuttingDown,
    StartupError,
)
from server.loading import load_models
from server.overrides import overridden
from server.repository import scan

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Iterator
    from pathlib import Path

    from server.config import ServerConfig
    from server.overrides import Override
    from server.serving import ServedModel, Serving

log = structlog.get_logger()

MAX_NAME_BYTES = 255  # of a directory
EVERYTHING = "*"  # among the models to load at the start
LOOK_S = 0.05  # between two looks whether the last session has gone


class Entry(NamedTuple):
    """A line of the index. `version` 0 and no report: it lies there, and nobody has loaded it."""

    name: str
    version: int = 0
    report: Report | None = None


class ModelControl:
    """`start` loads what is to be there from the start."""

    def __init__(self, config: ServerConfig, serving: Serving) -> None:
        self._config = config
        self._serving = serving
        self._catalogue = serving.catalogue
        self._locks: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._seen: dict[str, scan.Fingerprint] = {}

    async def start(self, also: Iterable[str] = ()) -> None:
        """Raises StartupError: what cannot be served, unless the server is to go on without it.
        `also`: what clients have loaded elsewhere, in mode explicit.
        """
        polls = self._config.model_control_mode == "poll"
        if polls:
            self._seen = scan.fingerprints(self._config.repository)
        for directory in self._wanted(also):
            try:
                await self._load(directory)
            except StartupError as error:
                if self._config.exit_on_error:
                    raise
                log.error("model cannot be served", model=directory.name, reason=str(error))
        if polls:
            self._in_background(self._poll())

    def _wanted(self, also: Iterable[str]) -> list[Path]:
        """Raises StartupError."""
        config, repository = self._config, self._config.repository
        if config.model_control_mode != "explicit":
            if config.load_model:
                raise StartupError(
                    "setting load_model: only with model_control_mode explicit; otherwise every "
                    "model in the repository is loaded"
                )
            return scan.scan(repository, may_be_empty=config.model_control_mode == "poll")
        if EVERYTHING in config.load_model:
            return scan.scan(repository, may_be_empty=True)
        there = {path.name: path for path in scan.scan(repository, may_be_empty=True)}
        for name in config.load_model:
            if name not in there:
                raise StartupError(f"setting load_model: {repository} holds no model '{name}'")
        names = dict.fromkeys([*config.load_model, *(name for name in also if name in there)])
        return [there[name] for name in names]

    async def stop(self) -> None:
        """Wait for nothing any more."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- what clients ask for --------------------------------------------------------------------

    async def load(self, name: str, override: Override | None = None) -> None:
        """Serve what now lies in the repository, or what `override` brings. Raises ModelControlOff,
        ModelNotFound, InvalidRequest, ShuttingDown.
        """
        self._check_control()
        if self._serving.draining:
            raise ShuttingDown("the server is shutting down and loads no models")
        directory = self._directory(name)
        if not (scan.is_model(directory) or (override is not None and override.files)):
            raise ModelNotFound(
                f"failed to load '{name}', no such model in the repository {directory.parent}"
            )
        try:
            await self._load(directory, override)
        except StartupError as error:
            raise InvalidRequest(f"failed to load '{name}', {error}") from None

    async def unload(self, name: str) -> None:
        """Take no new sessions for it; come back at once. Raises ModelControlOff, ModelNotFound."""
        self._check_control()
        async with self._lock(name):
            if not self._catalogue.versions(name):
                self._catalogue.model(name)  # it tells what is wrong
            self._replace(name, [])

    def index(self) -> Iterator[Entry]:
        """Every model that lies in the repository or was loaded, by name and version."""
        entries = [Entry(*known) for known in self._catalogue.reports()]
        names = {entry.name for entry in entries}
        lying = (Entry(name) for name in self._lying() if name not in names)
        yield from sorted([*entries, *lying])

    def _lying(self) -> list[str]:
        """What lies in the repository, as far as it can be read now."""
        try:
            return [path.name for path in scan.scan(self._config.repository, may_be_empty=True)]
        except (StartupError, OSError) as error:
            log.error("repository cannot be read", reason=str(error))
            return []

    def _check_control(self) -> None:
        mode = self._config.model_control_mode
        if mode != "explicit":
            raise ModelControlOff(
                "explicit model load / unload is not allowed if polling is enabled, or in mode "
                f"'none' (this is mode '{mode}'); start the server with --model-control-mode "
                "explicit"
            )

    def _directory(self, name: str) -> Path:
        """Where the model lies, if it does. Raises InvalidRequest."""
        is_too_long = len(name.encode()) > MAX_NAME_BYTES
        if name in ("", ".", "..") or "/" in name or "\0" in name or is_too_long:
            raise InvalidRequest(
                f"'{name[:MAX_NAME_BYTES]}' is no name of a model; expected one directory's name"
            )
        return self._config.repository / name

    # ---- loading ---------------------------------------------------------------------------------

    async def _load(self, directory: Path, override: Override | None = None) -> None:
        """Raises StartupError, and InvalidRequest for an override that is no model at all."""
        name = directory.name
        async with self._lock(name):
            self._catalogue.report(name, _versions(directory), State.LOADING)
            try:
                with ExitStack() as stack:
                    source = directory
                    if override is not None:
                        made = overridden(directory, override)
                        source = await asyncio.to_thread(stack.enter_context, made)
                    models = await self._models(source)
            except (StartupError, RequestError) as error:
                self._failed(directory, str(error))
                raise
            except BaseException:
                self._failed(directory, "loading was given up")
                raise
            self._replace(name, models)

    async def _models(self, source: Path) -> list[ServedModel]:
        known = [model for model in self._catalogue if model.spec.name == source.name]
        return await load_models(source, self._config, self._serving, known)

    def _failed(self, directory: Path, reason: str) -> None:
        """What served before serves on."""
        self._catalogue.report(directory.name, _versions(directory), State.UNAVAILABLE, reason)
        if not scan.is_model(directory):  # it was all in the request
            self._catalogue.forget(directory.name)

    def _replace(self, name: str, models: list[ServedModel]) -> None:
        for model in self._catalogue.replace(name, models):
            self._in_background(self._let_go(model))

    async def _let_go(self, model: ServedModel) -> None:
        """Its sessions may come to their end, but not for ever."""
        name, version = model.spec.name, model.spec.version
        log.info("model takes no new sessions", model=name, version=version, left=len(model.table))
        if model.keeps_something:  # else there are only requests, which are finished anyway
            try:
                async with asyncio.timeout(self._config.model_drain_limit_s):
                    while len(model.table):  # noqa: ASYNC110  (not worth a look at every step)
                        await asyncio.sleep(LOOK_S)
            except TimeoutError:
                ended = self._serving.end_all(model)
                log.warning("sessions ended, the drain limit has passed", model=name, count=ended)
        await model.driver.idle()
        self._catalogue.has_left(model)
        self._serving.sessions.forget_table(model.table)
        model.stop()
        log.info("model unloaded", model=name, version=version)

    # ---- looking at the repository by oneself ----------------------------------------------------

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._config.repository_poll_s)
            try:
                await self._look()
            except Exception:  # the next look may find the repository in better order
                log.exception("could not look at the repository")

    async def _look(self) -> None:
        """Load what is new or has changed, let go what has gone."""
        repository = self._config.repository
        try:
            found = await asyncio.to_thread(scan.fingerprints, repository)
        except StartupError as error:
            log.error("repository cannot be read, everything stays", reason=str(error))
            return
        for name in self._seen.keys() - found.keys():
            async with self._lock(name):
                self._replace(name, [])
                self._catalogue.forget(name)
        changed = [name for name, print_ in found.items() if self._seen.get(name) != print_]
        self._seen = found
        for name in changed:
            try:
                await self._load(repository / name)
            except StartupError as error:
                log.error("model cannot be served", model=name, reason=str(error))

    # ---- odds and ends ---------------------------------------------------------------------------

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _versions(directory: Path) -> list[int]:
    """Those that lie there; 0 where nobody knows."""
    try:
        return scan.versions(directory) or [0]
    except OSError:
        return [0]
