"""The probability flow keeps every marginal and no joint law: an Ornstein-Uhlenbeck process beside its ODE.

    dX = -θ X dt + σ dW,    stationary N(0, σ²/2θ), score -x 2θ/σ²
    its flow  dx/dt = -θ x - ½ σ² ∇log p_t(x)

Stationary, the two terms cancel: every start stays where it is, and the law with it. From N(m₀, v₀) the flow is the
affine map m_t + √(v_t/v₀) (x - m₀). In both the law at every time is that of the SDE, and the covariance of two times
is not: v_s e^{-θ(t-s)} for the SDE, √(v_s v_t) for the flow, whose paths never forget.

    python examples/probability_flow.py [folder for probability-flow.png]
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from neuralsde import sde
from neuralsde.evaluate import style

THETA, SIGMA = 1.0, 1.0
STATIONARY = SIGMA**2 / (2 * THETA)
TS = np.linspace(0.0, 3.0, 31)
ou = sde.OU(theta=THETA, mu=0.0, sigma=SIGMA)


def moments(m0: float, v0: float, t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance at the time t from N(m0, v0)."""
    decay = jnp.exp(-THETA * t)
    return m0 * decay, STATIONARY + (v0 - STATIONARY) * decay**2


def flow(m0: float, v0: float) -> sde.SDE:
    """The probability flow from N(m0, v0)."""

    def score(t: jax.Array, y: jax.Array, args: None) -> jax.Array:
        mean, variance = moments(m0, v0, t)
        return (mean - y) / variance

    return sde.probability_flow(ou.process(), score)


def paths(process: sde.SDE, y0s: jax.Array, method: sde.Method) -> jax.Array:
    """(n, 31) states at TS."""
    keys = jax.random.split(jax.random.key(1), len(y0s))
    solve = lambda y0, key: sde.simulate(process, y0, TS, key=key, method=method, substeps=8).ys  # noqa: E731
    return jax.jit(jax.vmap(solve))(y0s, keys)


def main(n: int = 4_000, folder: Path | None = None) -> dict[str, float]:
    """Print both laws beside each other; the picture goes to `folder`. Returns the largest errors and covariances."""
    normal = jax.random.normal(jax.random.key(0), (n,))
    resting = jnp.sqrt(STATIONARY) * normal
    still = paths(flow(0.0, STATIONARY), resting, sde.Heun())
    moving = paths(ou.process(), resting, sde.EulerMaruyama())
    found = {"stationary flow moves": float(jnp.abs(still - resting[:, None]).max())}
    print(f"stationary: no path of the flow moves by more than {found['stationary flow moves']:.1e}")

    m0, v0 = 2.0, 0.1
    starts = m0 + jnp.sqrt(v0) * normal
    led = paths(flow(m0, v0), starts, sde.Heun())
    mean, variance = moments(m0, v0, jnp.asarray(TS))
    exact = mean + jnp.sqrt(variance / v0) * (starts[:, None] - m0)
    found["affine map"] = float(jnp.abs(led - exact).max())
    print(f"from N({m0}, {v0}): flow against m + sqrt(v/v0) (x - m0), largest difference {found['affine map']:.1e}")

    noisy = paths(ou.process(), starts, sde.EulerMaruyama())
    s, t = 10, 20
    print(f"\n{'at t = 2':>24}{'SDE':>10}{'flow':>10}{'exact':>10}")
    rows = {"mean": (jnp.mean, mean[t]), "variance": (jnp.var, variance[t])}
    for name, (of, value) in rows.items():
        print(f"{name:>24}{of(noisy[:, t]):10.3f}{of(led[:, t]):10.3f}{value:10.3f}")
    for name, states in (("SDE", noisy), ("flow", led)):
        found[f"covariance {name}"] = float(jnp.cov(states[:, s], states[:, t])[0, 1])
    print(f"{'covariance with t = 1':>24}{found['covariance SDE']:10.3f}{found['covariance flow']:10.3f}")
    expected = variance[s] * np.exp(-THETA * (TS[t] - TS[s])), jnp.sqrt(variance[s] * variance[t])
    print(f"{'expected':>24}{expected[0]:10.3f}{expected[1]:10.3f}")
    if folder is not None:
        picture(moving, still, noisy, led, folder / "probability-flow.png")
    return found


def picture(moving: jax.Array, still: jax.Array, noisy: jax.Array, led: jax.Array, path: Path) -> None:
    """Paths of the SDE above, of its flow below; at rest on the left, from a narrow start on the right."""
    fig = style.figure(780, 380)
    titles = ("SDE, stationary", "SDE from N(2, 0.1)", "its flow: nothing moves", "its flow: paths never cross")
    for k, (states, title) in enumerate(zip((moving, noisy, still, led), titles, strict=True)):
        ax = fig.add_axes((0.06 + 0.48 * (k % 2), 0.57 - 0.49 * (k // 2), 0.43, 0.34), facecolor=style.PAPER)
        ax.plot(TS, np.asarray(states[:24]).T, color=style.ACCENT, linewidth=0.8, alpha=0.6)
        for quantile in (0.1, 0.5, 0.9):
            ax.plot(TS, np.quantile(states, quantile, axis=0), color=style.INK, linewidth=1.6)
        ax.set_title(title, fontsize=11, color=style.INK)
        ax.set_ylim(-2.4, 3.2)
        ax.tick_params(length=0, labelsize=10, colors=style.MUTED)
        for spine in ax.spines.values():
            spine.set_visible(False)
    style.save(fig, path)


if __name__ == "__main__":
    main(folder=Path(sys.argv[1]) if len(sys.argv) > 1 else None)
