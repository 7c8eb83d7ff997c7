"""Long, wide and watched solves: a million steps, devices, progress, 16-bit networks."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralsde import sde
from neuralsde.errors import RunFailed

KEY = jax.random.key(2)


def test_a_million_steps_cost_no_memory_and_time_does_not_drift():
    """dy = dt + cos(t) dt: y ends at t + sin(t) only if every step sees its own time."""
    process = sde.SDE(lambda t, y, a: 1 + jnp.cos(t), lambda t, y, a: jnp.zeros_like(y))
    ts = jnp.array([0.0, 3.0])

    def solve(steps):
        return lambda y: sde.simulate(process, y, ts, key=KEY, substeps=steps)

    with jax.enable_x64(True):
        programs = [jax.jit(solve(n)).lower(0.0).compile() for n in (64, 1_000_000)]
        sol = programs[1](0.0)
    assert np.isclose(sol.ys[-1], 3 + np.sin(3.0), atol=1e-5)
    assert sol.steps == 1_000_000
    sizes = [getattr(program.memory_analysis(), "temp_size_in_bytes") for program in programs]  # noqa: B009
    assert sizes[1] <= 1.05 * sizes[0]


def test_the_step_that_failed_is_named():
    """dy = y² dt from 1 leaves float32 in its 131st step of .01: the code says when, the message says where."""
    process = sde.SDE(lambda t, y, a: y**2, lambda t, y, a: jnp.zeros_like(y))
    sol = sde.simulate(process, 1.0, jnp.array([0.0, 1.0, 2.0]), key=KEY, substeps=100)
    y, n = np.float32(1), 0
    with np.errstate(over="ignore"):
        while np.isfinite(y):
            y, n = np.float32(y + np.float32(0.01) * y * y), n + 1
    assert sol.result == sde.Result.NOT_FINITE
    assert sol.steps == n - 1
    with pytest.raises(RunFailed, match=f"step {n} of the solve"):
        sol.raise_if_failed()


def test_progress_is_shown_once_for_a_batch_and_ends_at_the_end():
    seen = []
    solve = jax.jit(
        jax.vmap(
            lambda k: sde.simulate(
                sde.OU(1.0).process(), 0.0, jnp.array([0.0, 1.0]), key=k, substeps=500,
                progress=lambda done, steps: seen.append((int(done), int(steps))),
            ).ys
        )
    )  # fmt: skip
    jax.block_until_ready(solve(jax.random.split(KEY, 3)))
    jax.effects_barrier()
    assert sorted(done for done, _ in seen) == list(range(5, 501, 5))
    assert {steps for _, steps in seen} == {500}


def test_sixteen_bit_networks_leave_the_law_but_sixteen_bit_increments_do_not():
    """THEORY 14: OU over 2,000 steps of 1e-3. A bfloat16 network under float32 state and noise keeps the spread; added
    up in bfloat16, the pull of one step is below the spacing of the numbers, and the spread is that of free motion.
    """
    n, steps = 4_000, 2_000
    theta, sigma = 1.0, 0.1

    def drift(t, y, a):
        return (-jnp.asarray(theta, jnp.bfloat16) * y.astype(jnp.bfloat16)).astype(jnp.float32)

    process = sde.SDE(drift, lambda t, y, a: jnp.full_like(y, sigma), sde.Diagonal(depends="additive"))
    h = 2.0 / steps
    keys = jax.random.split(KEY, n)
    solve = jax.vmap(lambda k: sde.simulate(process, 0.0, jnp.array([0.0, 2.0]), key=k, substeps=steps).ys[-1])
    kept = float(jax.jit(solve)(keys).std())

    def lossy(key):
        def step(y, i):
            pull = (-theta * y * h).astype(jnp.bfloat16)
            push = (sigma * jnp.sqrt(h) * jax.random.normal(jax.random.fold_in(key, i), ())).astype(jnp.bfloat16)
            return y + pull + push, None

        return jax.lax.scan(step, jnp.zeros((), jnp.bfloat16), jnp.arange(steps))[0].astype(jnp.float32)

    lost = float(jax.jit(jax.vmap(lossy))(keys).std())
    exact = sigma * np.sqrt((1 - np.exp(-4 * theta)) / (2 * theta))
    assert abs(kept / exact - 1) < 0.04
    assert lost > 1.1 * exact


SHARDED = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from neuralsde import sde
assert jax.device_count() == 4
mesh = jax.make_mesh((4,), ("paths",), axis_types=(AxisType.Auto,))
over = NamedSharding(mesh, PartitionSpec("paths"))
process = sde.SDE(lambda t, y, w: jnp.tanh(y @ w), lambda t, y, w: 0.3 + 0.1 * jnp.cos(y))
ts, w = jnp.linspace(0.0, 1.0, 4), 0.5 * jnp.eye(2)
keys, y0 = jax.random.split(jax.random.key(0), 8), jnp.ones((8, 2))

def loss(w, keys, y0):
    one = lambda k, y: sde.simulate(process, y, ts, key=k, substeps=4, args=w).ys
    ys = jax.vmap(one)(keys, y0)
    return (ys[:, -1] ** 2).mean(), ys

run = jax.jit(jax.value_and_grad(loss, has_aux=True))
(a, ys), grad = run(w, keys, y0)
(b, spread), grad_b = run(w, jax.device_put(keys, over), jax.device_put(y0, over))
assert len(spread.sharding.device_set) == 4, spread.sharding
assert spread.addressable_shards[0].data.shape[0] == 2
assert jnp.allclose(ys, spread, atol=1e-6) and jnp.allclose(grad, grad_b, atol=1e-6)
print("same")
"""


def test_paths_spread_over_devices_are_the_same_paths():
    environment = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4"}
    done = subprocess.run([sys.executable, "-c", SHARDED], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "same", done.stderr[-2000:]
