"""Adaptive solves against closed forms on the same path: the error falls with the tolerance, laws are not biased."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import InputError, RunFailed
from neuralsde.sde.adaptive import _check_solver, brownian_tree, simulate_adaptive, to_diffrax
from neuralsde.sde.exact import GBM, LiExample3
from neuralsde.sde.solution import Result

KEY = jax.random.key(9)
KEYS = jax.random.split(KEY, 12)


TS = np.array([0.0, 0.4, 1.0])


def solve(a, b, key, tolerance):
    """The end, then the whole solution: `value_and_grad` of it, path by path, is the one program of these tests."""
    process = LiExample3(a, b).process()
    found = simulate_adaptive(process, 0.4, TS, key=key, rtol=tolerance, atol=tolerance, max_steps=256)
    return found.ys[-1], found


one = jax.jit(jax.value_and_grad(solve, (0, 1), has_aux=True))


def graded(a, b, keys, tolerance):
    """Of many paths, with a leading axis."""
    return jax.tree.map(lambda *parts: np.stack(parts), *(one(a, b, key, tolerance) for key in keys))


@jax.jit
@jax.vmap
def exact_of(key):
    """The solution and the derivatives of its end, on the path of `key`."""
    W = jnp.asarray(jax.vmap(lambda t: brownian_tree(key, 0.0, 1.0, ()).evaluate(0.0, t))(TS[1:]))
    slopes = jax.grad(lambda a, b: LiExample3(a, b).solution(0.4, 1.0, W[-1]), (0, 1))
    return LiExample3(0.7, 0.5).solution(0.4, TS[1:], W), jnp.stack(slopes(0.7, 0.5))


@pytest.mark.usefixtures("x64")
def test_error_and_gradient_fall_with_the_tolerance_on_one_path_with_additive_noise():
    """Global errors (RMS over paths), at two times, and of the derivatives of the end by both parameters."""
    exact, slopes = map(np.asarray, exact_of(KEYS))
    errors, off, steps = [], [], []
    for tolerance in (1e-2, 1e-4):
        (_, found), gradients = graded(0.7, 0.5, KEYS, tolerance)
        assert (found.result == Result.SUCCESSFUL).all()
        ys = np.asarray(found.ys)
        assert (ys[:, 0] == 0.4).all()
        errors.append(np.sqrt(((ys[:, 1:] - exact) ** 2).mean()))
        off.append(np.abs(np.stack(gradients, axis=1) - slopes).max())
        steps.append(np.asarray(found.steps).mean())
    assert errors[1] < 0.1 * errors[0] < 1e-2
    assert off[1] < 0.1 * off[0] < 1e-2
    assert steps[0] < steps[1]


@pytest.mark.usefixtures("x64")
def test_a_step_control_that_gives_up_is_a_result_code_and_one_error():
    (_, found), _ = graded(0.7, 0.5, KEYS, 1e-12)
    assert (found.result == Result.STEP_CONTROL_FAILED).all()
    with pytest.raises(RunFailed, match="max_steps"):
        found.raise_if_failed()


def test_adaptive_euler_and_solvers_that_do_not_fit_are_refused_with_the_reason():
    ts, gbm = jnp.array([0.0, 1.0]), GBM(0.3, 0.6).process()
    coupled = sde.SDE(gbm.drift, gbm.diffusion, sde.Diagonal())
    for process, method, words in (
        (gbm, diffrax.Euler(), "wrong answer"),
        (gbm, diffrax.HalfSolver(diffrax.Euler()), "wrong answer"),
        (gbm, diffrax.SPaRK(), "another process"),
        (gbm, diffrax.ShARK(), "another process"),
        (coupled, diffrax.ItoMilstein(), "commutative"),
        (coupled.to(sde.Stratonovich()), diffrax.SlowRK(), "commutative"),
    ):
        with pytest.raises(InputError, match=words):
            simulate_adaptive(process, jnp.ones(2), ts, key=KEY, method=method)
    with pytest.raises(InputError, match=r"decreasing[\s\S]*ts\[::-1\]"):
        simulate_adaptive(gbm, 1.0, ts[::-1], key=KEY)


@pytest.mark.parametrize(
    ("method", "words"),
    [
        (sde.ShARK(), r"method of simulate: one of diffrax[\s\S]*diffrax\.ShARK\(\)"),
        (sde.Heun(), r"diffrax\.Heun\(\)"),
        (sde.EulerMaruyama(), "try method=None"),
        (diffrax.SPaRK, r"a class[\s\S]*diffrax\.SPaRK\(\)"),
        ("heun", "not a solver"),
    ],
)
def test_what_is_no_solver_is_named(method, words):
    """Asked of the check itself: the types that tests run under would stop the call before it."""
    with pytest.raises(InputError, match=words):
        _check_solver(method)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rtol": "x"}, "rtol='x'"),
        ({"atol": jnp.ones(2)}, "atol="),
        ({"rtol": 0.0, "atol": 0.0}, "not both 0"),
        ({"dt0": -0.1}, "dt0=-0.1"),
        ({"dt0": "x"}, "dt0='x'"),
        ({"max_steps": 0}, "max_steps=0"),
    ],
)
def test_what_is_no_number_is_named(options, words):
    with pytest.raises(InputError, match=words):
        simulate_adaptive(GBM(0.3, 0.6).process(), 1.0, TS, key=KEY, **options)


def test_terms_apply_every_shape_of_noise_to_arrays_and_pytrees():
    dW, state = jnp.array([0.3, -0.2]), {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}

    def kick(process, y, control):
        term = to_diffrax(process, diffrax.UnsafeBrownianPath((), KEY)).terms[1]
        return term.vf_prod(0.0, y, None, control)

    def drift(t, y, args):
        return y

    y = jnp.array([1.0, 2.0])
    diagonal = sde.SDE(drift, lambda t, y, args: jax.tree.map(jnp.sin, y))
    assert jnp.allclose(kick(diagonal, y, dW), jnp.sin(y) * dW)
    kicks = {"a": dW, "b": jnp.array(0.5)}
    assert jnp.allclose(kick(diagonal, state, kicks)["b"], jnp.sin(3.0) * 0.5)
    scalar = sde.SDE(drift, lambda t, y, args: jax.tree.map(jnp.cos, y), sde.Scalar())
    assert jnp.allclose(kick(scalar, y, jnp.array(0.5)), jnp.cos(y) * 0.5)
    assert jnp.allclose(kick(scalar, state, jnp.array(0.5))["a"], jnp.cos(y) * 0.5)
    general = sde.SDE(drift, lambda t, y, args: jax.tree.map(lambda x: jnp.stack([x, -x], -1), y), sde.General(2))
    assert jnp.allclose(kick(general, y, dW), y * 0.5)
    assert jnp.allclose(kick(general, state, dW)["b"], 1.5)
