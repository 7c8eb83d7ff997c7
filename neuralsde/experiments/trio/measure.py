"""One model: samples by every valid sampler, their distances, nats, and the normaliser of an energy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralsde.experiments.densities import energies, log_integral
from neuralsde.experiments.planar import Trial, packed
from neuralsde.experiments.trio.ways import FEW, SAMPLERS, STEP, WAYS, Holds, Size, Way, refusal
from neuralsde.models import energy, flow_matching
from neuralsde.noising import VP, Mixture, Predictor
from neuralsde.sampling import AnnealedLangevin, DPMSolverPP, Heun, draw, mala
from neuralsde.sampling.likelihood import Fixed, flow_likelihoods, log_normaliser


def samples(model: Any, holds: Holds, sampler: str, trial: Trial, size: Size) -> Array:
    """Points (n, 2) in the model's units."""
    if holds == "energy":
        return walked(model, trial.key, size)
    predictor = model.predictor()
    if holds == "velocity":
        ts = jnp.linspace(1.0, 0.0, size.nfe // 2 + 1)
        return draw(predictor, (2,), size.samples, sampler=Heun(), ts=ts, key=trial.key).x
    how, nfe = {
        "SDE": (DPMSolverPP(eta=1.0), size.nfe),
        "ODE": (DPMSolverPP(), size.nfe),
        "Langevin": (AnnealedLangevin(), size.langevin),
    }[sampler]
    return draw(predictor, (2,), size.samples, sampler=how, nfe=nfe, key=trial.key).x


@eqx.filter_jit
def walked(model: energy.EnergyModel, key: Array, size: Size) -> Array:
    """Metropolis-adjusted Langevin from the Gaussian of the data, as many gradients as annealed Langevin has."""
    start, walk = jax.random.split(key)
    x, keys = jax.random.normal(start, (size.samples, 2)), jax.random.split(walk, size.samples)
    return jax.vmap(
        lambda x, k: mala(lambda y: -model.energy(y), x, key=k, steps=size.langevin, step_size=STEP).x
    )(x, keys)  # fmt: skip


def annealed(of: Callable[[Any], Any], trial: Trial, size: Size) -> tuple[Array, dict[str, float]]:
    """HMC from a wide Gaussian down to the energy, drawn again by weight; and the normaliser that comes with it."""
    found = log_normaliser(of, (2,), key=trial.key, n=size.chains, steps=size.temperatures, step_size=STEP, leaps=4)
    share = jnp.cumsum(jax.nn.softmax(found.log_weights))
    rows = jnp.searchsorted(
        share, (jnp.arange(size.chains) + 0.5) / size.chains
    )  # systematic: as even as weights allow
    facts = {"log z": found.log_z, "standard error": found.standard_error, "ess": found.ess / size.chains}
    return found.x[jnp.minimum(rows, size.chains - 1)], {name: float(value) for name, value in facts.items()}


def measured(model: Any, way: Way, trial: Trial, size: Size) -> tuple[dict[str, Any], dict[str, str]]:
    """Nats, distances by sampler, normalisers; and points in the units of the law, packed."""
    found: dict[str, Any] = {"w2": {}}
    shown, normaliser = {}, {}
    for sampler in SAMPLERS:
        if refusal(way.holds, sampler) is None:
            if sampler == "HMC":
                x, normaliser = annealed(model.energy, trial, size)
            else:
                x = samples(model, way.holds, sampler, trial, size)
            found["w2"][sampler] = trial.w2(x)
            shown[sampler] = packed(trial.law.outward(x))
    if isinstance(model, flow_matching.FlowMatching):
        ts = jnp.linspace(1.0, 0.0, FEW // 2 + 1)
        few = draw(model.predictor(), (2,), size.samples, sampler=Heun(), ts=ts, key=trial.key).x
        found["w2 few"] = trial.w2(few)
    if way.holds != "energy":
        flown = flow_likelihoods(model.predictor(), trial.inner(), solver=Fixed(size.solve))
        found["nats"] = trial.nats(flown.log_density)
    if isinstance(model, energy.EnergyModel):
        exact = log_integral(model, size.grid)
        found["nats by E"] = trial.nats(-energies(model, trial.inner()) - exact)
        found["normaliser"] = {"grid": float(exact), **normaliser}
        if model.config.objective == "nce":
            found["normaliser"]["learned"] = float(model.log_z)
    return found, shown


class Known(eqx.Module):
    """The law with its exact score, in the shape of a model of every level."""

    inside: Mixture

    def predictor(self) -> Predictor:
        return self.inside.predictor(VP())

    def energy(self, x: Any) -> Float[Array, ""]:
        return -self.inside.at(VP(), VP().t0).log_density(x)


def known(trial: Trial, size: Size) -> tuple[dict[str, Any], dict[str, str]]:
    """What each sampler makes of the exact score, and the nats of the flow with it."""
    law_of = trial.law.mixture
    assert law_of is not None
    means = trial.law.inward(law_of.means)
    inside = Mixture(law_of.weights, means, law_of.sds / trial.law.scale)
    return measured(Known(inside), WAYS["denoising, energy"], trial, size)
