"""Regions of shared memory: what is registered, and what a region survives."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from server.errors import InvalidRequest, LimitReached, NotAllowed, RegionExists, RegionNotFound
from server.shared_memory import MAX_NAME_BYTES, Regions, check_allowed

PAGE = 4096


@pytest.fixture
def segment(make_segment: Any) -> Path:
    path: Path = make_segment()
    return path


def registered(segment: Path, byte_size: int = 64, offset: int = 0, **arguments: Any) -> Regions:
    regions = Regions(**arguments)
    regions.register("r", segment.name, offset, byte_size)
    return regions


def is_open(segment: Path) -> bool:
    """Whether this process has it open, be it removed or not."""
    links = (os.readlink(file) for file in Path("/proc/self/fd").iterdir() if file.is_symlink())
    return any(link.removesuffix(" (deleted)") == str(segment) for link in links)


@pytest.mark.parametrize("slashes", ["", "/", "//"])
def test_a_region_is_part_of_a_segment(segment: Path, slashes: str) -> None:
    regions = Regions()
    regions.register("r", slashes + segment.name, 10, 50)
    region = regions.find("r")
    assert (region.key, region.offset, region.byte_size) == (slashes + segment.name, 10, 50)
    assert region.read(2, 3) == bytes([12, 13, 14])
    region.write(48, np.array([513], "<u2"))
    assert segment.read_bytes()[56:] == bytes([56, 57, 1, 2, 60, 61, 62, 63])


def test_status_and_unregister(make_segment: Any) -> None:
    regions = Regions()
    for name in ("a", "b", "c"):
        regions.register(name, make_segment().name, 0, 1)
    assert [region.name for region in regions.status()] == ["a", "b", "c"]
    assert [region.name for region in regions.status("b")] == ["b"]
    regions.unregister("b")
    regions.unregister("never there")
    assert [region.name for region in regions.status()] == ["a", "c"]
    with pytest.raises(RegionNotFound, match=r"^Unable to find system shared memory region: 'b'"):
        regions.status("b")
    with pytest.raises(RegionNotFound, match=r"^Unable to find shared memory region: 'b'"):
        regions.find("b")
    regions.unregister("")
    assert not list(regions.status())


def test_one_segment_under_two_names(segment: Path) -> None:
    regions = registered(segment, 32)
    regions.register("other", segment.name, 16, 48)
    regions.find("r").write(16, np.array([7], np.uint8))
    assert regions.find("other").read(0, 1) == b"\x07"


def test_a_name_is_taken_once(make_segment: Any) -> None:
    regions = registered(make_segment())
    with pytest.raises(RegionExists, match=r"^shared memory region 'r' already in manager"):
        regions.register("r", make_segment().name, 0, 1)


@pytest.mark.parametrize(
    ("offset", "byte_size"),
    [
        (0, 65),
        (1, 64),
        (64, 1),
        (65, 0),
        (0, 0),
        (0, 2**64 - 1),
        (2**64 - 1, 1),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_a_region_lies_in_its_segment(segment: Path, offset: int, byte_size: int) -> None:
    regions = Regions()
    with pytest.raises(InvalidRequest, match=r"^failed to register shared memory region 'r': inv"):
        regions.register("r", segment.name, offset, byte_size)
    assert not list(regions.status())
    assert not is_open(segment)


@pytest.mark.parametrize("key", ["", "/", "..", "/..", ".", "../x", "a/b", "/a/b", "a\0b", "a/"])
def test_keys_that_name_no_segment(key: str) -> None:
    with pytest.raises(InvalidRequest, match="the key of a segment"):
        Regions().register("r", key, 0, 1)


def test_a_segment_that_is_not_there() -> None:
    with pytest.raises(RegionNotFound, match=r"^Unable to open shared memory region: '/rnns"):
        Regions().register("r", "/rnnserve-nowhere", 0, 1)


def test_a_key_that_is_too_long_for_a_file() -> None:
    with pytest.raises(InvalidRequest, match=r"^Unable to open shared memory region: 'xxx"):
        Regions().register("r", "x" * 300, 0, 1)


@pytest.mark.parametrize("name", ["", "x" * (MAX_NAME_BYTES + 1), "é" * (MAX_NAME_BYTES // 2 + 1)])
def test_names_have_a_length(segment: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="expected a name of 1 to 256 bytes"):
        Regions().register(name, segment.name, 0, 1)


def test_links_and_pipes_are_no_segments(segment: Path, tmp_path: Path) -> None:
    """Through a link any file of the server's user could be read and written."""
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    segment.unlink()
    segment.symlink_to(secret)
    with pytest.raises(InvalidRequest, match=r"^Unable to open"):
        registered(segment)
    segment.unlink()
    os.mkfifo(segment)
    with pytest.raises(InvalidRequest, match="which has 0 bytes"):
        registered(segment)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_a_segment_that_may_not_be_written(segment: Path) -> None:
    segment.chmod(0o400)
    with pytest.raises(InvalidRequest, match="Permission denied"):
        registered(segment)


@pytest.mark.parametrize(
    ("offset", "byte_size", "text"),
    [
        (-1, 1, "Invalid offset for"),
        (50, 1, "Invalid offset for"),
        (2**63 - 1, 2**63 - 1, "Invalid offset for"),
        (0, 51, r"Invalid offset \+ byte size for"),
        (49, 2, r"Invalid offset \+ byte size for"),
        (0, 0, r"Invalid offset \+ byte size for"),
        (0, -1, r"Invalid offset \+ byte size for"),
        (1, 2**63 - 1, r"Invalid offset \+ byte size for"),
    ],
)
def test_a_tensor_lies_in_its_region(segment: Path, offset: int, byte_size: int, text: str) -> None:
    region = registered(segment, 50).find("r")
    region.check(0, 50)
    region.check(49, 1)
    with pytest.raises(InvalidRequest, match=f"^{text} shared memory region: 'r'"):
        region.check(offset, byte_size)


def test_who_holds_a_region_can_use_it_to_the_end(make_segment: Any) -> None:
    """Unregistered, its segment removed, and the name given to another one."""
    segment, other = make_segment(), make_segment(bytes(64))
    regions = registered(segment)
    region = regions.find("r")
    regions.unregister("")
    segment.unlink()
    regions.register("r", other.name, 0, 64)
    region.write(0, np.array([99], np.uint8))
    assert region.read(0, 2) == bytes([99, 1])
    assert regions.find("r").read(0, 2) == bytes(2)
    regions.unregister("r")
    assert (is_open(segment), is_open(other)) == (True, False)
    del region
    gc.collect()
    assert not is_open(segment)


def test_a_segment_that_is_cut_short_fails_requests_and_nothing_else(make_segment: Any) -> None:
    """A mapping would end this process here, by SIGBUS."""
    segment = make_segment(bytes(2 * PAGE))
    region = registered(segment, 2 * PAGE).find("r")
    os.truncate(segment, PAGE)
    assert region.read(0, PAGE) == bytes(PAGE)
    region.write(0, np.ones(PAGE, np.uint8))
    for attempt in (
        lambda: region.read(PAGE, 1),
        lambda: region.read(0, 2 * PAGE),
        lambda: region.reserve(PAGE - 1, 2),
        lambda: region.write(PAGE - 1, np.ones(2, np.uint8)),
    ):
        with pytest.raises(InvalidRequest, match="has been cut short"):
            attempt()
    assert segment.read_bytes() == b"\x01" * PAGE
    os.truncate(segment, 2 * PAGE)
    assert region.read(PAGE, PAGE) == bytes(PAGE)


def test_a_full_file_system_is_told_before_it_is_written(make_segment: Any) -> None:
    """A segment may be made larger than the memory for it: here than there is at all."""
    segment = make_segment(b"")
    size = 2**50
    os.truncate(segment, size)
    region = registered(segment, size).find("r")
    with pytest.raises(InvalidRequest, match=r"^cannot write to shared memory.*No space"):
        region.reserve(0, size)
    region.reserve(size - PAGE, PAGE)
    region.write(size - PAGE, np.ones(PAGE, np.uint8))
    assert region.read(size - 1, 1) == b"\x01"


@pytest.mark.parametrize(
    "array",
    [
        np.float32(3),
        np.arange(6, dtype=np.int64).reshape(2, 3).T,
        np.arange(8, dtype=np.float16)[::2],
        np.array([True, False]),
        np.zeros((0, 3), np.float32),
    ],
    ids=["scalar", "transposed", "every second", "bool", "empty"],
)
def test_arrays_are_written_row_major(segment: Path, array: Any) -> None:
    region = registered(segment).find("r")
    region.write(4, array)
    assert region.read(4, 60).startswith(np.asarray(array).tobytes())
    assert region.read(0, 4) == bytes([0, 1, 2, 3])


def test_as_many_as_files_may_be_open(make_segment: Any) -> None:
    regions = registered(make_segment(), max_regions=2)
    regions.register("s", make_segment().name, 0, 1)
    with pytest.raises(LimitReached, match="2 shared memory regions"):
        regions.register("t", make_segment().name, 0, 1)
    regions.unregister("r")
    regions.register("t", make_segment().name, 0, 1)


@pytest.mark.parametrize(
    ("policy", "is_local", "allowed"),
    [
        ("local", True, True),
        ("local", False, False),
        ("all", True, True),
        ("all", False, True),
        ("off", True, False),
        ("off", False, False),
    ],
)
def test_who_may_use_it(policy: Any, is_local: bool, allowed: bool) -> None:
    caller = SimpleNamespace(is_local=is_local)
    if allowed:
        check_allowed(policy, caller)
    else:
        with pytest.raises(NotAllowed, match=f"setting shared_memory: {policy}"):
            check_allowed(policy, caller)


def test_it_shows_itself(segment: Path) -> None:
    region = registered(segment, 3, offset=5).find("r")
    assert repr(region) == f"<Region 'r': 3 bytes of '{segment.name}' at 5>"
