"""`add_weight`: a weight's name, what goes with it, and how both survive being assigned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from models import Layer

if TYPE_CHECKING:
    from collections.abc import Callable


class Written(Layer):
    """A layer whose `build` is given as a function."""

    def __init__(self, build: Callable[[Any], None], **options: Any) -> None:
        super().__init__(**options)
        self.write = build

    def build(self, input_shape: Any) -> None:
        self.write(self)
        self.built = True

    def call(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs


def built(build: Callable[[Any], None], **options: Any) -> Any:
    layer = Written(build, **options)
    layer.build((2, 3))
    return layer


def names(layer: Layer) -> list[str]:
    return list(layer.state_dict())


def test_a_weight_is_an_attribute_at_once() -> None:
    layer = built(lambda layer: layer.add_weight("kernel", (2, 3)))

    assert layer.kernel.shape == (2, 3)
    assert names(layer) == ["kernel"]


def test_glorot_uniform_unless_told_otherwise() -> None:
    """Its limit for (100, 200) is sqrt(6 / 300) = 0.1414."""
    layer = built(lambda layer: layer.add_weight("kernel", (100, 200), initializer=None))

    assert 0.14 < layer.kernel.abs().max() <= 0.1415


def test_a_weight_has_one_name_that_of_its_attribute() -> None:
    def build(layer: Any) -> None:
        layer.first = layer.add_weight(
            "alpha", (2,), initializer="ones", regularizer="l2", constraint="non_neg"
        )
        layer.second = layer.add_weight("beta", (2,), trainable=False)
        layer.gamma = layer.add_weight("gamma", (2,), initializer="ones", regularizer="l1")

    layer = built(build)

    assert names(layer) == ["first", "second", "gamma"]
    assert [id(w) for w in layer.weights] == [id(layer.first), id(layer.gamma), id(layer.second)]
    assert [loss.item() for loss in layer.losses] == pytest.approx([0.02, 0.02])
    assert list(layer.weight_constraints) == ["first"]
    layer.trainable = False
    layer.trainable = True
    assert [weight.requires_grad for weight in layer.parameters()] == [True, False, True]


def test_weights_are_in_the_order_in_which_they_were_added() -> None:
    """Whatever is assigned when, as in Keras; so are the penalties, 0.01 · 1 and 0.01 · 2."""

    def build(layer: Any) -> None:
        one = layer.add_weight("one", (1,), initializer="ones", regularizer="l1")
        layer.two = layer.add_weight("two", (2,), initializer="ones", regularizer="l1")
        layer.later = one

    layer = built(build)

    assert [len(weight) for weight in layer.weights] == [1, 2]
    assert [loss.item() for loss in layer.losses] == pytest.approx([0.01, 0.02])


TAKEN = ["kernel", "dtype", "training", "a.b", "name", "weights", ""]


@pytest.mark.parametrize("name", TAKEN)
def test_names_that_are_taken_or_impossible(name: str) -> None:
    """The second weight of the name keeps both its own value and the first's."""

    def build(layer: Any) -> None:
        layer.add_weight("kernel", (1,), initializer="zeros")
        layer.second = layer.add_weight(name, (1,), initializer="ones")

    layer = built(build)

    assert names(layer) == ["kernel", "second"]
    assert [weight.item() for weight in layer.weights] == [0, 1]
    assert layer.dtype is None
    assert layer.name == "written"


def test_unassigned_weights_of_one_name_get_numbers() -> None:
    def build(layer: Any) -> None:
        for _ in range(3):
            layer.add_weight("w.x", (1,))

    assert names(built(build)) == ["w_x", "w_x_1", "w_x_2"]


def test_dtype_of_the_weight_then_of_the_layer_then_torchs() -> None:
    def build(layer: Any) -> None:
        layer.add_weight("own", (1,), dtype="float16")
        layer.add_weight("layers", (1,))

    assert [w.dtype for w in built(build, dtype="float64").weights] == [
        torch.float16,
        torch.float64,
    ]
    assert built(build).layers.dtype is torch.float32


def test_two_attributes_of_one_weight() -> None:
    def build(layer: Any) -> None:
        layer.first = layer.second = layer.add_weight("w", (2,))

    layer = built(build)

    assert layer.first is layer.second
    assert len(layer.weights) == 1
