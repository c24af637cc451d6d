"""Adam against torch's own."""

import pytest
import torch
from torch import Tensor

from forked import run_python
from mvae.adam import Adam


def parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(3, 4), (5,), (), (2, 1, 3)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def set_gradients(values: list[Tensor], step: int) -> None:
    """Some have none: every third step the first, and the third until step 5."""
    generator = torch.Generator().manual_seed(step)
    for number, value in enumerate(values):
        gradient = torch.randn(value.shape, generator=generator)
        none = (number == 0 and step % 3 == 0) or (number == 2 and step < 5)
        value.grad = None if none else gradient


def test_bit_for_bit_torchs() -> None:
    mine, torchs = parameters(), parameters()
    adam = Adam(mine)
    expected = torch.optim.Adam(torchs, 0.01, fused=True)
    for step in range(20):
        set_gradients(mine, step)
        set_gradients(torchs, step)
        rate = 0.01 / (1 + step)
        expected.param_groups[0]["lr"] = rate
        expected.step()
        adam.step(rate)
        assert all(a.equal(b) for a, b in zip(mine, torchs, strict=True))
    assert not mine[0].equal(parameters()[0])


def test_continues_from_a_state() -> None:
    whole = parameters()
    adam = Adam(whole)
    for step in range(10):
        set_gradients(whole, step)
        adam.step(0.01)
    parted = parameters()
    first = Adam(parted)
    for step in range(4):
        set_gradients(parted, step)
        first.step(0.01)
    state = {name: value.clone() for name, value in first.state().items()}
    second = Adam(parted)
    second.load(state)
    for step in range(4, 10):
        set_gradients(parted, step)
        second.step(0.01)
    assert all(a.equal(b) for a, b in zip(whole, parted, strict=True))


def test_state_of_other_parameters_is_refused() -> None:
    adam = Adam(parameters())
    before = {name: value.clone() for name, value in adam.state().items()}
    with pytest.raises(ValueError, match="same shapes"):
        adam.load(Adam(parameters()[:2]).state())
    with pytest.raises(ValueError, match="same shapes"):
        adam.load({name: value.reshape(-1) for name, value in before.items()})
    assert all(value.equal(before[name]) for name, value in adam.state().items())


def test_gradients_are_forgotten() -> None:
    values = parameters()
    set_gradients(values, 7)
    adam = Adam(values)
    adam.zero_grad()
    assert all(value.grad is None for value in values)
    adam.step(0.01)
    assert all(a.equal(b) for a, b in zip(values, parameters(), strict=True))


def test_does_not_import_the_compiler() -> None:
    code = """
import sys, torch
from mvae.adam import Adam
value = torch.ones(3, requires_grad=True)
adam = Adam([value])
value.sum().backward()
adam.step(0.01)
assert value.lt(1).all()
assert "torch._dynamo" not in sys.modules
"""
    run_python(code).check_returncode()
