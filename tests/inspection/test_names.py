"""What names tell, on names that people use."""

from __future__ import annotations

import pytest

from inspection import names

PAIRS = [
    ("h", "h_next"), ("h", "hn"), ("h", "new_h"), ("h", "h_out"), ("h_in", "h_out"), ("hx", "hy"),
    ("h0", "hn"), ("c0", "cn"), ("h_0", "h_n"), ("state", "stateN"), ("state", "new_state"),
    ("prev_state", "state"), ("past_key", "present_key"), ("cache_2", "next_cache_2"),
    ("conv_cache", "conv_cache_out"), ("hidden_in", "h_out"), ("cell", "cn"),
    ("lstm.h:0", "lstm.h_next:0"), ("prevState", "nextState"), ("buffer_in", "buffer_out"),
    ("encoder/state_1", "encoder/state_1_new"), ("hidden_state", "new_hidden"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_names_that_belong_together(before: str, after: str) -> None:
    like = names.likeness(before, after)
    assert like.stem > 0
    assert like.directed


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("h", "c_next"), ("h0", "cn"), ("input", "output"), ("x", "y"), ("audio", "probability"),
        ("onnx::LSTM_12", "71"), ("input_2", "output_3"), ("h_pi", "h_vf"),
    ],
)  # fmt: skip
def test_names_that_do_not(before: str, after: str) -> None:
    assert names.likeness(before, after).stem == 0


def test_a_number_tells_states_of_one_name_apart() -> None:
    assert names.likeness("cache_1", "cache_1_out").stem == 2
    assert names.likeness("cache_1", "cache_2_out").stem == 1


def test_before_and_after_are_better_than_in_and_out() -> None:
    assert names.likeness("prev_x", "x").ordered
    assert not names.likeness("foo_in", "foo_out").ordered


@pytest.mark.parametrize(
    "name", ["h", "hx", "state", "conv_cache", "prev_action", "gru_in", "past"]
)
def test_a_states_name(name: str) -> None:
    assert names.sounds_like_state(name)
    assert not names.sounds_like_data(name)


@pytest.mark.parametrize("name", ["audio", "obs", "noisy_spec", "frames", "x", "input_ids", "mix"])
def test_a_name_for_data(name: str) -> None:
    assert names.sounds_like_data(name)
    assert not names.sounds_like_state(name)


@pytest.mark.parametrize("name", ["sr", "sample_rate", "fs", "samplingRate"])
def test_a_sample_rate(name: str) -> None:
    assert names.sounds_like_sample_rate(name)


@pytest.mark.parametrize("name", ["sample", "samples", "s", "rates_of_change"])
def test_no_sample_rate(name: str) -> None:
    assert not names.sounds_like_sample_rate(name)


@pytest.mark.parametrize("name", ["episode_starts", "is_first", "reset", "start", "sequence_start"])
def test_a_start(name: str) -> None:
    assert names.sounds_like_start(name)


@pytest.mark.parametrize("name", ["start_position", "restart_count", "first_frame", "x"])
def test_no_start(name: str) -> None:
    assert not names.sounds_like_start(name)


def test_symbols() -> None:
    assert names.sounds_like_batch("batch_size")
    assert names.sounds_like_batch("N")
    assert names.sounds_like_time("seq_len")
    assert not names.sounds_like_batch("time")
    assert names.sounds_like_length("x_lens")
