"""What names tell: `h0` and `hn`, `state` and `stateN`, `prev_cache` and `new_cache`.

A name is cut into words; words that say only before or after, in or out, are put aside; what is
left, the stem, is the same for the two ends of a state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_BEFORE = {"prev", "previous", "past", "old", "last", "init", "initial", "initials"}
_AFTER = {"next", "new", "present", "updated", "update", "final", "upd", "nxt"}
_ROLES = _BEFORE | _AFTER | {"in", "out", "input", "output", "inputs", "outputs", "cur", "current"}
_ROLES |= {"n", "onnx", "ret", "returned", "t", "i", "o"}
_SAME = {"hidden": "h", "hid": "h", "cell": "c", "states": "state", "caches": "cache", "hs": "h"}
_GENERIC = {"state", "cache", "value", "tensor", "vec", "vector"}
# What is glued to a short stem: hn, hx and hy of torch, hout, hin.
_GLUED = re.compile(r"^(h|c|s|state|hidden|cell|cache|mem|buf)(n|x|y|t|in|out|o|i|next|new|prev)$")

_STATE = {
    *("state", "h", "c", "hn", "cn", "hx", "cx", "hy", "cy", "s", "cache", "past", "present"),
    *("prev", "previous", "buffer", "buf", "buff", "mem", "memory", "context", "ctx", "carry"),
    *("rnn", "lstm", "gru", "recurrent", "history", "hist", "fifo", "queue", "kv", "delay"),
    *("cached", "carried", "hiddens", "register", "latent", "belief", "deter", "stoch"),
}
_DATA = {
    *("audio", "frame", "frames", "spec", "spectrum", "spectrogram", "mix", "mixture", "noisy"),
    *("signal", "wav", "wave", "waveform", "speech", "sample", "samples", "feat", "feats"),
    *("feature", "features", "obs", "observation", "observations", "image", "images", "img"),
    *("mel", "mels", "fbank", "x", "token", "tokens", "ids", "src", "pcm", "mag", "magnitude"),
    *("data", "text", "action", "actions", "far", "near", "lpb", "mic", "ref", "phase", "pixel"),
    *("pixels", "embedding", "embeddings", "chunk", "y", "erb"),
}
_RESULTS = {
    *("y", "prob", "probs", "probability", "probabilities", "logit", "logits", "score", "scores"),
    *("enh", "enhanced", "mask", "pred", "prediction", "predictions", "action", "actions"),
    *("denoised", "clean", "label", "labels", "mean", "std", "result", "results"),
}
_SAMPLE_RATES = {"sr", "fs", "rate", "samplerate", "sampling", "sample"}
_LENGTHS = {"len", "lens", "length", "lengths", "xlen", "xlens", "seqlen", "seqlens", "lenghts"}
_TIMES = {"time", "t", "seq", "sequence", "steps", "step", "timesteps", "frames", "length", "len"}
_TIMES |= {"l", "seqlen", "frame", "chunk", "window", "num", "timestep"}
_STARTS = {"start", "starts", "first", "reset", "resets", "begin"}
_AROUND_START = {"is", "episode", "episodes", "sequence", "seq", "flag", "flags", "step", "state"}
_BATCHES = {"batch", "n", "b", "bs", "batchsize", "bsz", "nbatch"}


@dataclass(frozen=True, slots=True)
class Likeness:
    """How two names agree: `stem` 2 in every word and number, 1 but for numbers and generic words,
    0 not. `ordered`: one of the two says before or after; `directed`: at least in or out.
    """

    stem: int
    ordered: bool
    directed: bool


@cache
def words(name: str) -> list[str]:
    """`decoder/prevState_2:0` → decoder, prev, state, 2."""
    found = [word.lower() for word in _WORD.findall(name.partition(":0")[0])]
    return [_SAME.get(word, word) for word in found]


def likeness(input_name: str, output_name: str) -> Likeness:
    """Compare the name of an input with that of an output that may continue it."""
    before, after = words(input_name), words(output_name)
    ordered = bool(_BEFORE & set(before) or _AFTER & set(after)) or after[-1:] == ["n"]
    ordered = ordered or any(_GLUED.match(word) for word in after)
    level = _common_stem(before, after)
    return Likeness(level, ordered, ordered or input_name != output_name)


def sounds_like_state(name: str) -> bool:
    """`hidden_in`, `lstm_cache`, `prev_action`."""
    found = words(name)
    return bool(_STATE & set(found)) or any(_GLUED.match(word) for word in found)


def sounds_like_data(name: str) -> bool:
    """`audio`, `obs`, `input_frame`: what a client sends. A state's name comes first."""
    return not sounds_like_state(name) and bool(_DATA & set(words(name)))


def sounds_like_result(name: str) -> bool:
    """`probs`, `y`, `enhanced`: what a client gets; but not `next_mean`. A state's name comes
    first.
    """
    found = set(words(name))
    return not sounds_like_state(name) and bool(_RESULTS & found) and not _AFTER & found


def is_only_a_role(name: str) -> bool:
    """`input`, `input_3`."""
    found = {word for word in words(name) if not word.isdigit()}
    return bool(found) and found <= {"input", "inputs", "in"}


def sounds_like_sample_rate(name: str) -> bool:
    """`sr`, `sample_rate`, `fs`."""
    found = words(name)
    return (
        bool(found)
        and set(found) <= _SAMPLE_RATES | {"audio", "hz", "input"}
        and (found != ["sample"])
    )


def sounds_like_length(name: str) -> bool:
    """`lengths`, `audio_len`."""
    return bool(_LENGTHS & set(words(name)))


def sounds_like_start(name: str) -> bool:
    """`episode_starts`, `is_first`, `reset`; but not `start_position`."""
    found = set(words(name)) - _ROLES
    return bool(found & _STARTS) and found <= _STARTS | _AROUND_START


def sounds_like_time(symbol: str) -> bool:
    """Of a symbolic dimension; one without a symbol is known as `input[axis]`."""
    return "[" not in symbol and bool(_TIMES & set(words(symbol)))


def sounds_like_batch(symbol: str) -> bool:
    """Of a symbolic dimension, likewise."""
    return "[" not in symbol and bool(_BATCHES & set(words(symbol)))


def _common_stem(before: list[str], after: list[str]) -> int:
    """`Likeness.stem`. A number alone is none: in_2 and out_2 are the third of their kind."""
    stem = _strict(before)
    if all(word.isdigit() for word in stem):
        return 0
    if stem == _strict(after):
        return 2
    return int(_loose(before) == _loose(after))


def _strict(found: list[str]) -> tuple[str, ...]:
    return tuple(_SAME.get(_unglued(w), _unglued(w)) for w in found if w not in _ROLES)


def _loose(found: list[str]) -> tuple[str, ...]:
    stem = tuple(word for word in _strict(found) if not word.isdigit())
    return tuple(word for word in stem if word not in _GENERIC) or stem


def _unglued(word: str) -> str:
    match = _GLUED.match(word)
    return match[1] if match else word
