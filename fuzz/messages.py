"""Any message of a protocol, field by field as its descriptor says: names that exist and names that
do not, numbers at the edges, all of it or next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message_factory import GetMessageClass

from fuzz import odd

if TYPE_CHECKING:
    from random import Random

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

NAMES = ("fold", "double", "x", "y", "h", "h_next", "nobody")
SETTINGS = (
    *("trace_level", "trace_rate", "trace_count", "log_frequency", "trace_mode", "trace_file"),
    *("log_info", "log_warning", "log_verbose_level", "log_format", "log_file"),
)
# what strings are likely to be, by a word in their field's name
LIKELY = (
    ("version", odd.VERSIONS),
    ("datatype", ("INT64", "FP32", "BYTES")),
    ("key", ("/rnnserve-nothing", "nothing", "../shm", "/dev/null", *SETTINGS)),
    ("config", ("{}", '{"max_batch_size": 1}', "name: 'fold'", "[")),
    ("value", ("OFF", "TIMESTAMPS", "10", "-1")),
    ("name", NAMES),
)
MAX_DEPTH, MAX_REPEATED = 4, 3


def message(rng: Random, descriptor: Descriptor, depth: int = 0) -> Message:
    """One of that type."""
    made: Message = GetMessageClass(descriptor)()
    share = rng.choice((0.2, 0.5, 0.9))
    for field in descriptor.fields:
        if rng.random() < share:
            _fill(rng, made, field, depth)
    return made


def _fill(rng: Random, made: Any, field: FieldDescriptor, depth: int) -> None:
    of = field.message_type
    if of is not None and depth >= MAX_DEPTH:
        return
    if of is not None and of.GetOptions().map_entry:
        key, value = of.fields_by_name["key"], of.fields_by_name["value"]
        for _ in range(rng.randrange(MAX_REPEATED + 1)):
            _put(rng, getattr(made, field.name), _scalar(rng, key), value, depth)
    elif field.is_repeated:
        for _ in range(rng.randrange(MAX_REPEATED + 1)):
            item = message(rng, of, depth + 1) if of else _scalar(rng, field)
            getattr(made, field.name).append(item)
    elif of is not None:
        getattr(made, field.name).CopyFrom(message(rng, of, depth + 1))
    else:
        setattr(made, field.name, _scalar(rng, field))


def _put(rng: Random, entries: Any, key: Any, value: FieldDescriptor, depth: int) -> None:
    if value.message_type is None:
        entries[key] = _scalar(rng, value)
    else:
        entries[key].CopyFrom(message(rng, value.message_type, depth + 1))


def _scalar(rng: Random, field: FieldDescriptor) -> Any:
    kind = field.cpp_type
    if field.type == FieldDescriptor.TYPE_BYTES:
        return odd.content(rng)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        fits = (texts for word, texts in LIKELY if word in field.name)
        return odd.text(rng, *next(fits, ()))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return odd.flag(rng)
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return odd.real(rng)
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        assert field.enum_type is not None
        return rng.choice(field.enum_type.values).number
    return _whole(odd.number(rng), kind)


def _whole(number: int, kind: int) -> int:
    """The number as this kind holds it."""
    is_short = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32)
    size = 2**32 if is_short else 2**64
    if kind in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
        return number % size
    return (number + size // 2) % size - size // 2
