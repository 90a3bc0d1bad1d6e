"""Prints two modules' protobuf descriptors as JSON, name by name.

python describe_protocol.py MODULE…   (two files that declare one package cannot be loaded in one
process, so each party is described in a process of its own)
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any


def enum(described: Any) -> Any:
    return {value.name: value.number for value in described.values}


def field(described: Any) -> Any:
    kind = described.message_type or described.enum_type
    return {
        "number": described.number,
        "type": described.type,
        "of": kind.full_name if kind else None,
        "repeated": described.is_repeated,
        "presence": described.has_presence,
        "oneof": described.containing_oneof.name if described.containing_oneof else None,
    }


def message(described: Any) -> Any:
    return {
        "fields": {f.name: field(f) for f in described.fields},
        "enums": {e.name: enum(e) for e in described.enum_types},
        "messages": {m.name: message(m) for m in described.nested_types},
        "map": described.GetOptions().map_entry,
    }


def method(described: Any) -> Any:
    return [
        described.input_type.full_name,
        described.output_type.full_name,
        described.client_streaming,
        described.server_streaming,
    ]


def service(described: Any) -> Any:
    return {m.name: method(m) for m in described.methods}


def file(described: Any) -> Any:
    return {
        "package": described.package,
        "messages": {name: message(m) for name, m in described.message_types_by_name.items()},
        "enums": {name: enum(e) for name, e in described.enum_types_by_name.items()},
        "services": {name: service(s) for name, s in described.services_by_name.items()},
    }


json.dump([file(importlib.import_module(name).DESCRIPTOR) for name in sys.argv[1:]], sys.stdout)
