"""What a method takes, and what a refusal says."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import pytest

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.sde.methods import METHODS, RI6, SRIW1, Heun, Milstein, MilsteinArea, ShARK, commutes
from neuralsde.sde.methods.base import EVERY_DEPENDENCE

KEY = jax.random.key(0)
NOISES = [
    noise
    for kind in EVERY_DEPENDENCE
    for noise in (sde.Diagonal(kind), sde.Scalar(kind), sde.General(1, kind), sde.General(3, kind))
]


def test_every_noise_and_calculus_has_a_method():
    for noise, calculus in itertools.product(NOISES, (sde.Ito(), sde.Stratonovich())):
        assert any(known.takes(noise, calculus) for known in METHODS)


@pytest.mark.parametrize("known", METHODS, ids=lambda known: known.__name__)
def test_what_a_method_declares_is_whole(known):
    """A value that hashes; orders for all that it takes; needs that a cell knows; roots and draws never run back."""
    method = known()
    assert hash(method) == hash(known())
    assert known.needs <= {"H", "A", "key"}
    assert known.paper
    assert known.evaluations
    if "key" in known.needs:
        assert known.backwards == "refused"
    for noise, calculus in itertools.product(NOISES, (sde.Ito(), sde.Stratonovich())):
        if not known.takes(noise, calculus):
            continue
        strong, weak = method.strong_order(noise), method.weak_order(noise)
        assert weak >= 1
        assert strong is None or 0.5 <= strong <= weak
        # Without the area no method is above one half where the noise does not commute (Clark & Cameron 1980).
        if strong is not None and strong > 0.5 and noise.depends != "additive":
            assert commutes(noise) or "A" in known.needs


def test_what_commutes():
    assert all(commutes(noise) for noise in NOISES if noise.depends in ("additive", "commutative"))
    assert commutes(sde.Scalar())
    assert commutes(sde.General(1))
    assert commutes(sde.Diagonal("separable"))
    assert not commutes(sde.Diagonal())
    assert not commutes(sde.General(2))
    assert not commutes(sde.General(2, "separable"))


def ones(t, y, args):
    return jnp.ones_like(y)


@pytest.mark.parametrize(
    ("method", "noise", "says"),
    [
        (Milstein(), sde.General(2), "MilsteinArea"),
        (SRIW1(), sde.Diagonal(), "Milstein,"),
        (ShARK(), sde.Diagonal(), "additive"),
        (Heun(), sde.Diagonal(), "process.to(sde.Stratonovich())"),
        (MilsteinArea(), sde.Scalar(), "Milstein,"),
    ],
)
def test_a_refusal_names_what_fits(method, noise, says):
    with pytest.raises(InputError) as error:
        sde.simulate(sde.SDE(ones, ones, noise), jnp.ones(2), jnp.arange(3.0), key=KEY, method=method)
    assert says in str(error.value)


def test_an_area_wants_a_vector():
    process = sde.SDE(ones, ones)
    with pytest.raises(InputError, match="area"):
        sde.simulate(process, jnp.ones((2, 2)), jnp.arange(3.0), key=KEY, method=MilsteinArea())


def test_weak_methods_make_no_strong_claim():
    assert RI6().strong_order(sde.General(2)) is None
