"""Objects by name, config or callable: what initialisers, regularisers and constraints share.

Keras accepts three forms wherever it takes such an object: a name (`"orthogonal"`), a config
(`{"class_name": "L1L2", "config": {"l2": 0.1}}`) and any callable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True)
class Configurable:
    """Base of such objects: a dataclass of its arguments."""

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal object."""
        return asdict(self)


class Family(Generic[T]):
    """One kind of such objects: what it is called, its classes and its names."""

    def __init__(
        self,
        what: str,
        classes: tuple[type[Configurable], ...],
        named: Mapping[str, Callable[[], T]],
    ) -> None:
        self.what = what
        self.classes: dict[str, Any] = {cls.__name__: cls for cls in classes}
        self.named: dict[str, Callable[[], T]] = {**self.classes, **named}

    def get(self, identifier: str | Mapping[str, Any] | T) -> T:
        """The object that `identifier` stands for.

        Raises ValueError for an unknown name or class, and for what is none of the three forms.
        """
        if isinstance(identifier, Mapping):
            return self._of_config(identifier)
        if isinstance(identifier, str):
            return self._of_name(identifier)
        if callable(identifier):
            return identifier
        raise ValueError(f"Could not interpret {self.what} identifier: {identifier!r}")

    def optional(self, identifier: str | Mapping[str, Any] | T | None) -> T | None:
        """As `get`, with None for none."""
        return None if identifier is None else self.get(identifier)

    def serialize(self, obj: T | None) -> Any:
        """What `get` makes an equal object of: a config, or a callable of one's own as it is.

        With such a callable the config of a layer is good for a copy, but not for a file.
        """
        if not isinstance(obj, Configurable):
            return obj
        return {"class_name": type(obj).__name__, "config": obj.get_config()}

    def _of_config(self, config: Mapping[str, Any]) -> T:
        name = config.get("class_name")
        if name not in self.classes:
            raise self._unknown(name, self.classes)
        made: T = self.classes[name](**config.get("config", {}))
        return made

    def _of_name(self, name: str) -> T:
        if name not in self.named:
            raise self._unknown(name, self.named)
        return self.named[name]()

    def _unknown(self, name: object, known: Mapping[str, object]) -> ValueError:
        return ValueError(
            f"Unknown {self.what}: {name}. Known are {', '.join(known)}, or pass a callable."
        )
