"""Reports on processes whose answer is known: linear, network, cubic, exploding, CIR, undefined below zero."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from neuralsde import sde
from neuralsde.errors import InputError
from neuralsde.nets.lipschitz import lipschitz_bound, lipswish
from neuralsde.sde.exact import CIR, GBM
from neuralsde.sde.wellposed import growth_constant, wellposedness

KEY = jax.random.key(4)
POINTS = jax.random.normal(KEY, (32, 2))
LINE = POINTS[:, :1]


def scalar(drift, diffusion=lambda t, y, args: jnp.ones_like(y), noise=None):
    return sde.SDE(drift, diffusion, noise or sde.Diagonal(depends="separable"))


def of(report, name):
    return next(line for line in report.conditions if line.name.startswith(name))


def test_a_linear_process_is_certified_by_its_true_constants():
    process = GBM(0.3, 0.5).process()
    report = wellposedness(process, POINTS, lipschitz_drift=0.3, lipschitz_diffusion=0.5)
    assert report.verdict == "certified"
    assert [line.status for line in report.conditions] == ["certified"] * 4 + ["sampled"]
    sampled = wellposedness(process, POINTS)
    assert sampled.verdict == "nothing refuted"
    assert of(sampled, "Lipschitz drift").value == pytest.approx(0.3, rel=1e-4)
    assert of(sampled, "Lipschitz diffusion").value == pytest.approx(0.5, rel=1e-4)
    assert "no proof" in str(sampled)


def test_a_bound_that_the_samples_exceed_is_refused():
    with pytest.raises(InputError, match=r"bound of 0\.2[\s\S]*norm 0\.3"):
        wellposedness(GBM(0.3, 0.5).process(), POINTS, lipschitz_drift=0.2)


def test_networks_are_certified_by_their_spectral_norms():
    f, g = (eqx.nn.MLP(2, 2, 8, 1, lipswish, jnp.tanh, key=k) for k in jax.random.split(KEY))
    process = sde.SDE(lambda t, y, args: f(y), lambda t, y, args: g(y))
    bounds = {"lipschitz_drift": float(lipschitz_bound(f)), "lipschitz_diffusion": float(lipschitz_bound(g))}
    report = wellposedness(process, POINTS, **bounds)
    assert report.verdict == "certified"
    assert of(report, "linear growth, drift").value == pytest.approx(
        max(bounds["lipschitz_drift"], float(jnp.linalg.norm(f(jnp.zeros(2))))), rel=1e-5
    )


def test_a_cubic_drift_inwards_is_khasminskii_and_outwards_may_explode():
    inwards = wellposedness(scalar(lambda t, y, args: y - y**3), LINE)
    assert inwards.verdict == "beyond the theorem"
    assert of(inwards, "linear growth, drift").value == pytest.approx(3, abs=0.01)
    assert any("TamedEuler" in line for line in inwards.advice)
    assert "Khasminskii" in str(inwards)
    outwards = wellposedness(scalar(lambda t, y, args: y**3), LINE)
    assert outwards.verdict == "not established"
    assert "explode in finite time" in str(outwards)
    assert "no step is small enough" in str(outwards)
    assert "TamedEuler" not in str(outwards)
    assert wellposedness(scalar(lambda t, y, args: jnp.exp(y)), LINE).verdict == "not established"


def test_a_diffusion_that_outgrows_the_drift_is_not_sent_to_a_tamed_method():
    """<y, -y> + y⁴/2 -> infinity, though no drift points outwards; held back by -y⁵ it is Khasminskii's case."""
    loose = wellposedness(scalar(lambda t, y, args: -y, lambda t, y, args: y**2), LINE)
    assert loose.verdict == "not established"
    assert "against the drift" in str(loose)
    assert "TamedEuler" not in str(loose)
    held = wellposedness(scalar(lambda t, y, args: -(y**5), lambda t, y, args: y**2), LINE)
    assert held.verdict == "beyond the theorem"
    assert "no method here is proved" in str(held)


A, B = jnp.array([[0.0, 1.0], [0.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 2.0]])


def pair(one, two):
    return lambda t, y, args: jnp.stack([one @ y, two @ y], axis=1)


@pytest.mark.parametrize(
    ("noise", "g", "really"),
    [
        (sde.Diagonal("additive"), lambda t, y, args: 0.5 * y, "separable"),
        (sde.Diagonal("separable"), lambda t, y, args: jnp.sin(y[::-1]), "any"),
        (sde.Diagonal("commutative"), lambda t, y, args: jnp.sin(y[::-1]), "any"),
        (sde.Scalar("separable"), lambda t, y, args: A @ y, "commutative"),
        (sde.General(2, "commutative"), pair(A, B), "any"),
        (sde.General(2, "separable"), pair(A, A), "commutative"),
    ],
)
def test_a_false_dependence_is_refuted_and_the_true_one_named(noise, g, really):
    """The commutator of linear columns A y and B y is (AB - BA) y, with AB - BA = A here."""
    report = wellposedness(sde.SDE(lambda t, y, args: -y, g, noise), POINTS)
    assert of(report, "noise depends").status == "fails"
    assert report.verdict == "not established"
    assert any(f"depends='{really}'" in line for line in report.advice)


@pytest.mark.parametrize(
    ("noise", "g"),
    [
        (sde.Diagonal("additive"), lambda t, y, args: jnp.sin(y) ** 2 + jnp.cos(y) ** 2),  # 1, up to rounding
        (sde.Diagonal("commutative"), lambda t, y, args: jnp.array([1.0, 0.0]) * jnp.sin(y)),
        (sde.General(2, "commutative"), pair(A @ A + B, jnp.linalg.inv(B))),
    ],
)
def test_a_true_dependence_is_not_refuted(noise, g):
    report = wellposedness(sde.SDE(lambda t, y, args: -y, g, noise), POINTS)
    assert of(report, "noise depends").status == "sampled"
    assert report.verdict == "nothing refuted"


def test_a_pytree_state_is_judged_as_its_vector():
    process = sde.SDE(
        lambda t, y, args: {"a": -(y["a"] ** 3), "b": -y["b"]},
        lambda t, y, args: jax.tree.map(jnp.ones_like, y),
        sde.Diagonal("additive"),
    )
    report = wellposedness(process, {"a": POINTS, "b": POINTS[:, 0]}, centre={"a": jnp.zeros(2), "b": 0.0})
    assert report.verdict == "beyond the theorem"
    with pytest.raises(InputError, match="one state"):
        wellposedness(process, {"a": POINTS, "b": POINTS[:, 0]}, centre=jnp.zeros(3))


def test_the_square_root_process_is_the_yamada_watanabe_case():
    points = jnp.abs(POINTS) + 0.1
    report = wellposedness(CIR(1.0, 1.0, 0.5).process(), points)
    assert report.verdict == "beyond the theorem"
    assert "exponent about 0.5" in str(report)
    assert any("FullTruncationEuler" in line for line in report.advice)
    assert of(report, "Lipschitz drift").status == "sampled"
    coupled = sde.SDE(CIR(1.0, 1.0, 0.5).process().drift, CIR(1.0, 1.0, 0.5).process().diffusion, sde.Diagonal())
    assert wellposedness(coupled, points).verdict == "not established"
    third = scalar(lambda t, y, args: -y, lambda t, y, args: jnp.cbrt(y))
    assert wellposedness(third, LINE).verdict == "not established"


def test_a_singular_point_elsewhere_is_found_where_it_is_looked_for():
    jacobi = scalar(lambda t, y, args: 0.5 - y, lambda t, y, args: jnp.sqrt(jnp.maximum(y * (1 - y), 1e-30)))
    points = jnp.linspace(0.1, 0.9, 9)[:, None]
    assert wellposedness(jacobi, points, centre=jnp.ones(1)).verdict == "beyond the theorem"


def test_a_naive_root_is_named_where_it_is_not_a_number():
    naive = scalar(lambda t, y, args: 1 - y, lambda t, y, args: jnp.sqrt(y))
    report = wellposedness(naive, jnp.linspace(-0.5, 1.5, 8)[:, None])
    assert report.verdict == "not established"
    assert "not finite at 25 %" in str(report)


def test_stratonovich_processes_are_judged_by_their_ito_form():
    """y o dW has the Ito drift y/2; y² o dW has the cubic y³."""
    linear = sde.SDE(lambda t, y, args: 0 * y, lambda t, y, args: y, sde.Scalar(), sde.Stratonovich())
    assert of(wellposedness(linear, LINE), "Lipschitz drift").value == pytest.approx(0.5, rel=1e-4)
    with pytest.raises(InputError, match="Ito drift"):
        wellposedness(linear, LINE, lipschitz_drift=1.0)
    square = sde.SDE(lambda t, y, args: 0 * y, lambda t, y, args: y**2, sde.Scalar(), sde.Stratonovich())
    assert of(wellposedness(square, LINE), "linear growth, drift").value == pytest.approx(3, abs=0.01)


def test_general_noise_uses_the_frobenius_norm():
    """G(y) = y ⊗ (1, 2): |G(x) - G(y)| = √5 |x - y|."""
    process = sde.SDE(lambda t, y, args: -y, lambda t, y, args: y[:, None] * jnp.array([1.0, 2.0]), sde.General(2))
    report = wellposedness(process, POINTS)
    assert of(report, "Lipschitz diffusion").value == pytest.approx(5**0.5, rel=1e-4)


def test_constants_and_refusals():
    assert growth_constant(2.0, 3.0) == 3.0
    for call in (
        lambda: growth_constant(-1.0, 0.0),
        lambda: wellposedness(GBM(0.3, 0.5).process(), POINTS[0, 0]),
        lambda: wellposedness(GBM(0.3, 0.5).process(), POINTS, centre=jnp.zeros(3)),
        lambda: wellposedness(GBM(0.3, 0.5).process(), POINTS.at[0].set(jnp.nan)),
    ):
        with pytest.raises(InputError):
            call()
