"""What is wrong with a model's configuration or file, before it is known which file to name."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Problem(Exception):
    """One line: the field, what stands there, what was expected. `load` puts the file in front."""


def there_is(names: Iterable[str], wanted: str) -> str:
    """The names that there are, and which of them may have been meant by `wanted`."""
    names = sorted(names)
    near = difflib.get_close_matches(wanted, names, n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return (", ".join(names) or "none") + hint
