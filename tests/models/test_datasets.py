"""The data that comes with the package is what its README says."""

from __future__ import annotations

import numpy as np

from models.datasets import japanese_vowels


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
