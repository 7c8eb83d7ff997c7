"""The forecast experiment on processes whose law is known, and its parts one by one."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from neuralsde.data import from_arrays
from neuralsde.errors import InputError
from neuralsde.evaluate import scores as sc
from neuralsde.experiments.forecast import experiment, gru, gru_fit, harness, peers
from neuralsde.experiments.forecast.baselines import VAR, choose_vars, persistence, var
from neuralsde.experiments.forecast.case import Case, rehearsal
from neuralsde.experiments.forecast.data import BEIJING_COLUMNS, CURRENCIES, SPECS, Spec, load
from neuralsde.experiments.forecast.law import LEVELS, Forecast, Marks, followed, marks
from neuralsde.experiments.forecast.ours import SETTINGS
from neuralsde.experiments.forecast.report import options, table_record
from neuralsde.experiments.forecast.verdict import lines, verdict
from neuralsde.experiments.results import on_file, opening, write_results

SPEC = Spec("toy", "toy", (1, 2, 8), 60, 20, "this file")

A = np.array([[[0.5, 0.2], [-0.1, 0.6]], [[0.2, -0.1], [0.0, 0.2]]])
"""A stable VAR(2): its companion matrix has spectral radius 0.87."""
S = np.array([[1.0, 0.5], [0.5, 2.0]])
TRUTH = VAR(np.array([0.3, -0.2]), A, S, 0.0)


def simulated(rows: int, seed: int, model: VAR = TRUTH) -> np.ndarray:
    """A path (rows, d) of a VAR, without its first 200 steps."""
    d, order = len(model.intercept), model.order
    noise = np.random.default_rng(seed).standard_normal((rows + 200, d)) @ np.linalg.cholesky(model.covariance).T
    y = np.zeros((rows + 200, d))
    for t in range(order, len(y)):
        y[t] = model.intercept + sum(model.matrices[j] @ y[t - 1 - j] for j in range(order)) + noise[t]
    return y[200:]


def toy(rows: int = 3_000, seed: int = 0, spec: Spec = SPEC) -> Case:
    return Case.of(spec, from_arrays(np.arange(float(rows)), simulated(rows, seed), columns=["a", "b"]))


# -- the case ----------------------------------------------------------------------------------------------------------


def test_windows_lie_in_the_last_fifth_and_hold_what_came() -> None:
    values = simulated(1_000, 1)
    values[905, 1] = np.nan
    case = Case.of(replace(SPEC, origins=150), from_arrays(np.arange(1_000.0), values, columns=["a", "b"]))
    assert case.row.min() == np.flatnonzero(np.arange(1_000.0) > 999 - 0.2 * 999)[0]
    assert case.row.max() == 999 - 8
    for i, row in enumerate(case.row):
        np.testing.assert_array_equal(case.truth[i], values[row + np.array(SPEC.horizons)])
    assert np.isnan(case.truth).any()
    before = values[: case.row.min()]
    np.testing.assert_allclose(case.scale, np.sqrt((np.diff(before, axis=0) ** 2).mean(0)))


def test_unrest_is_the_change_of_the_scale_in_the_test_part() -> None:
    values = np.random.default_rng(0).standard_normal((1_000, 2)).cumsum(0)
    test = toy(1_000).grids[0].test
    values[test:] = values[test] + [[3.0, 1.0]] * (values[test:] - values[test])
    case = Case.of(SPEC, from_arrays(np.arange(1_000.0), values, columns=["a", "b"]))
    np.testing.assert_allclose(case.unrest(), [3.0, 1.0], rtol=0.15)


def test_a_missing_row_is_a_missing_target_and_moves_no_other() -> None:
    """Two rows of an hourly table left out: targets stay as many hours after their origin as they were."""
    times = np.arange("2020-01-01T00", "2020-03-01T00", dtype="datetime64[h]")
    values = np.arange(float(len(times)))[:, None]
    keep = np.ones(len(times), bool)
    keep[[1_300, 1_301]] = False
    spec = replace(SPEC, origins=240)
    case = Case.of(spec, from_arrays(times[keep], values[keep], columns=["hour"]))
    place = np.arange(len(times))[keep][case.row]
    expected = place[:, None] + np.array(spec.horizons)
    missing = np.isin(expected, [1_300, 1_301])
    assert missing.any()
    np.testing.assert_array_equal(case.truth[..., 0], np.where(missing, np.nan, expected))
    np.testing.assert_array_equal(case.grids[0].filled[1_298:1_304, 0], [1298, 1299, 1299, 1299, 1302, 1303])


def test_a_rehearsal_ends_where_the_test_begins() -> None:
    data = from_arrays(np.arange(1_000.0), simulated(1_000, 1), columns=["a", "b"])
    assert len(rehearsal(data).series[0]) == Case.of(SPEC, data).row.min()


def test_too_few_windows_are_refused() -> None:
    with pytest.raises(InputError, match="at least 50"):
        toy(spec=replace(SPEC, origins=20))


# -- vector autoregression ---------------------------------------------------------------------------------------------


def test_the_law_of_a_var_is_that_of_its_companion_matrix() -> None:
    d, p, steps = 2, 2, 7
    companion = np.zeros((d * p, d * p))
    companion[:d] = np.concatenate(A, axis=1)
    companion[d:, :d] = np.eye(d)
    noise = np.zeros((d * p, d * p))
    noise[:d, :d] = S
    past = np.random.default_rng(0).standard_normal((3, 4, d))
    mean, spread = TRUTH.mean(past, steps), TRUTH.covariances(steps)
    for i in range(3):
        state, covariance = np.concatenate([past[i, -1], past[i, -2]]), np.zeros_like(noise)
        for h in range(steps):
            state = companion @ state + np.concatenate([TRUTH.intercept, np.zeros(d)])
            covariance = companion @ covariance @ companion.T + noise
            np.testing.assert_allclose(mean[i, h], state[:d], atol=1e-12)
            np.testing.assert_allclose(spread[h], covariance[:d, :d], atol=1e-12)


def test_the_var_of_a_var_scores_what_the_exact_law_scores() -> None:
    """2,400 rows: the CRPS of the fitted law within 2 % of that of the true one at every horizon; BIC finds order 2."""
    case = toy()
    past = case.grids[0].values[case.at[:, None] + np.arange(-1, 1)]
    horizons = np.array(SPEC.horizons)
    mean, sd = TRUTH.mean(past, 8), np.sqrt(np.diagonal(TRUTH.covariances(8), axis1=1, axis2=2))
    exact = sc.crps_gaussian(mean[:, horizons - 1], np.broadcast_to(sd[horizons - 1], case.truth.shape), case.truth)
    found = marks(var(case, n=50, seed=0, orders=(1, 2, 3, 4)), case)
    np.testing.assert_allclose(found.crps.mean(0), (exact / case.scale).mean(0), rtol=0.02)
    assert choose_vars([case.grids[0].values[:2_400]], (1, 2, 3, 4))[0].order == 2


def test_samples_of_the_var_have_its_covariance() -> None:
    case = toy()
    forecast = var(case, n=4_000, seed=0, orders=(2,))
    assert forecast.mean is not None
    drawn = forecast.samples[:, 5, 2] - forecast.mean[5, 2]
    fitted = choose_vars([case.grids[0].values[: case.grids[0].test]], (2,))[0].covariances(8)[-1]
    np.testing.assert_allclose(np.cov(drawn.T), fitted, rtol=0.1)


def test_series_share_a_var_when_they_are_alike() -> None:
    other = VAR(TRUTH.intercept, -A, S, 0.0)
    alike = choose_vars([simulated(1_000, 1), simulated(1_000, 2)], (1, 2))
    assert alike[0] is alike[1]
    unlike = choose_vars([simulated(1_000, 1), simulated(1_000, 2, other)], (1, 2))
    np.testing.assert_allclose(unlike[1].matrices, -A, atol=0.15)


def test_a_var_sees_nothing_of_the_test_part_but_the_past_of_an_origin() -> None:
    """What comes after the last origin changes no forecast; what comes before one does."""
    values = simulated(1_000, 3)
    changed = values.copy()
    changed[995:] += 100.0
    forecasts = []
    for each in (values, changed):
        case = Case.of(SPEC, from_arrays(np.arange(1_000.0), each, columns=["a", "b"]))
        keep = case.row < 995
        for make in (var, persistence):
            forecasts.append(make(case, n=4, seed=0).samples[:, keep])
    np.testing.assert_array_equal(forecasts[0], forecasts[2])
    np.testing.assert_array_equal(forecasts[1], forecasts[3])


# -- scores ------------------------------------------------------------------------------------------------------------


def test_marks_of_samples_are_those_of_their_law() -> None:
    case = toy()
    gaussian = var(case, n=400, seed=0, orders=(2,))
    closed, sampled = marks(gaussian, case), marks(Forecast(gaussian.samples), case)
    np.testing.assert_allclose(sampled.crps.mean(0), closed.crps.mean(0), rtol=0.02)
    for level in LEVELS:
        np.testing.assert_allclose(sampled.coverage[level].mean(0), closed.coverage[level].mean(0), atol=0.08)


# -- widths that follow ------------------------------------------------------------------------------------------------


def grown(rows: int = 5_000, at: int = 3_800) -> Case:
    """White noise whose s.d. is 1, and 2 from row `at` on, just before the test part."""
    values = np.random.default_rng(0).standard_normal((rows, 1))
    values[at:] *= 2
    spec = replace(SPEC, horizons=(1, 4), origins=400)
    return Case.of(spec, from_arrays(np.arange(float(rows)), values, columns=["a"]))


def normal(case: Case) -> Forecast:
    """N(0, 1), as it was learnt before."""
    shape = case.truth.shape
    return Forecast(np.random.default_rng(1).standard_normal((50, *shape)), np.zeros(shape), np.ones(shape))


def test_widths_follow_a_change_and_know_nothing_of_what_comes() -> None:
    """Coverage returns to nominal; a truth that is not known yet moves no width."""
    case = grown()
    earlier = case.earlier()
    assert earlier.row.min() < 4_000 <= earlier.row.max()
    wide = followed(normal(case), case, normal(earlier), earlier)
    before, after = marks(normal(case), case), marks(wide, case)
    assert before.coverage[80].mean() < 0.55
    np.testing.assert_allclose(after.coverage[80].mean(), 0.80, atol=0.04)
    np.testing.assert_allclose(after.coverage[95].mean(), 0.95, atol=0.03)
    assert after.crps.mean() < before.crps.mean()
    now = np.median(case.when)
    late = earlier.when[:, None] + np.array(case.spec.horizons) > now
    changed = replace(earlier, truth=np.where(late[..., None], 100.0, earlier.truth))
    other = followed(normal(case), case, normal(changed), changed)
    assert wide.sd is not None
    assert other.sd is not None
    np.testing.assert_array_equal(other.sd[case.when <= now], wide.sd[case.when <= now])
    assert (other.sd[case.when > now + 50] > wide.sd[case.when > now + 50]).all()


def test_widths_are_the_same_in_either_form() -> None:
    """Paths in model units and a law in closed form."""
    case = toy(1_000)
    earlier = case.earlier()
    paths = [Forecast.of_states(case.encoder.encode_values(var(each, n=500, seed=0, orders=(2,)).samples), each)
             for each in (case, earlier)]  # fmt: skip
    laws = [var(each, n=500, seed=0, orders=(2,)) for each in (case, earlier)]
    drawn, closed = followed(paths[0], case, paths[1], earlier), followed(laws[0], case, laws[1], earlier)
    assert closed.sd is not None
    np.testing.assert_allclose(drawn.samples.std(0).mean(0), closed.sd.mean(0), rtol=0.05)


# -- the recurrent network ---------------------------------------------------------------------------------------------


def network(case: Case, *, length: int = 30, season: int = 4) -> tuple[gru.GRU, gru.Tracks]:
    """A network with weights drawn at random, so that its law depends on everything it sees."""
    tracks = gru.Tracks.of(case, season=season, length=length, burn=10)
    model = gru.GRU(tracks.walk, 0, 6, key=jax.random.key(0))
    weights = 0.3 * jax.random.normal(jax.random.key(1), model.head.weight.shape)
    return eqx.tree_at(lambda m: m.head.weight, model, weights), tracks


@pytest.mark.usefixtures("x64")
def test_the_density_of_the_one_step_law_is_students() -> None:
    law = gru.StudentLaw(jnp.array([0.5, -1.0]), jnp.array([0.3, 2.0]), jnp.array([2.5, 9.0]))
    x = np.linspace(-30, 30, 400_001)
    density = np.exp(np.asarray(jax.vmap(law.log_density)(jnp.stack([jnp.asarray(x)] * 2, axis=1))))
    np.testing.assert_allclose(density.sum(0) * (x[1] - x[0]), 1.0, atol=2e-4)  # the tail of 2.5 beyond 30 is 1e-5
    expected = np.stack([stats.t.pdf(x, 2.5, 0.5, 0.3), stats.t.pdf(x, 9.0, -1.0, 2.0)], axis=1)
    np.testing.assert_allclose(density, expected, rtol=1e-8)


def test_paths_begin_with_the_stated_law() -> None:
    """Draws one step from an origin against the Student law that the state after the past gives; Kolmogorov-Smirnov."""
    case = toy(spec=replace(SPEC, horizons=(1,)))
    model, tracks = network(case)
    drawn = gru.deepar(model, tracks, case, warm=30, n=1_000, seed=0).samples
    for i in (0, 17):
        t = int(case.at[i])
        state = model.start()
        for k in range(t - 29, t):
            state, _ = model(state, tracks.track.sight(jnp.asarray(k), tracks.season))
        _, law = model(state, tracks.track.sight(jnp.asarray(t), tracks.season))
        z = (case.encoder.encode_values(drawn[:, i, 0]) - np.asarray(law.location)) / np.asarray(law.scale)
        for k, dof in enumerate(np.asarray(law.dof)):
            assert stats.kstest(z[:, k], "t", (float(dof),)).pvalue > 1e-3


def test_the_loss_is_the_likelihood_of_what_was_seen() -> None:
    values = simulated(1_000, 4)
    values[300:306, 0] = np.nan
    case = Case.of(SPEC, from_arrays(np.arange(1_000.0), values, columns=["a", "b"]))
    model, tracks = network(case)
    found, count = gru_fit.window_loss(model, tracks.track, jnp.asarray(285), season=4, length=30, burn=10)
    state, nats, seen = model.start(), 0.0, 0
    z = case.encoder.encode_values(values)
    for t in range(285, 315):
        state, law = model(state, tracks.track.sight(jnp.asarray(t), 4))
        for k in range(2):
            if t >= 295 and not np.isnan(z[t + 1, k]):
                location, scale, dof = (float(part[k]) for part in (law.location, law.scale, law.dof))
                nats -= stats.t.logpdf(z[t + 1, k], dof, location, scale)
                seen += 1
    assert int(count) == seen == 34
    np.testing.assert_allclose(float(found), nats, rtol=1e-4)


def test_training_windows_end_before_the_validation_part_and_that_before_the_test() -> None:
    case = toy(1_000)
    tracks = gru.Tracks.of(case, season=4, length=30, burn=10)
    test = case.grids[0].test
    cut = test - round(0.1 * test)
    assert tracks.train.min() == 4  # the season before it is inside the series
    assert tracks.train.max() + 30 == cut - 1
    scored = np.concatenate([start + 1 + np.arange(10, 30) for start in tracks.validation])
    assert scored.min() == cut
    assert scored.max() < test
    assert len(np.unique(scored)) == len(scored)


def test_parameters_are_counted_and_matched() -> None:
    model = gru.GRU(np.ones(3), 5, 11, key=jax.random.key(0))
    leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
    count = sum(leaf.size for leaf in leaves if isinstance(leaf, jax.Array))
    assert count == gru.parameters(3, 5, 11)
    assert gru.hidden_size(3, 5, count) == 11


# -- tables ------------------------------------------------------------------------------------------------------------


def test_the_rates_are_the_same_from_either_form(tmp_path: Path) -> None:
    rates = np.exp(np.random.default_rng(0).standard_normal((50, 8)).cumsum(0) / 100).round(6)
    text = "".join(",".join(f"{value:.6f}" for value in row) + "\n" for row in rates)
    for name in ("published", "compact"):
        (tmp_path / name / "exchange_rate").mkdir(parents=True)
    (tmp_path / "published/exchange_rate/exchange_rate.txt.gz").write_bytes(gzip.compress(text.encode()))
    np.savez(tmp_path / "compact/exchange_rate/exchange_rate.npz", x=rates)
    published, compact = (load("exchange", tmp_path / name) for name in ("published", "compact"))
    assert published.columns == CURRENCIES
    np.testing.assert_array_equal(published.series[0].values, rates)
    np.testing.assert_array_equal(compact.series[0].values, rates)


def test_the_air_is_the_same_from_either_form(tmp_path: Path) -> None:
    everything = ("PM2.5", "PM10", "SO2", "NO2", "CO", "O3", "TEMP", "PRES", "DEWP", "RAIN", "WSPM")
    x = np.random.default_rng(0).standard_normal((2, 60, 11)).astype(np.float32)
    x[1, 7, 0] = np.nan
    for name in ("published/PRSA_Data_20130301-20170228", "compact/beijing_air"):
        (tmp_path / name).mkdir(parents=True)
    np.savez(tmp_path / "compact/beijing_air/beijing_multisite.npz", x=x, stations=["Aa", "Bb"], columns=everything,
             start="2013-03-01T00")  # fmt: skip
    for station, part in zip(("Aa", "Bb"), x, strict=True):
        rows = ["No,year,month,day,hour," + ",".join(everything[:-1]) + ",wd,WSPM,station"]
        for t, values in enumerate(part):
            cells = ["NA" if np.isnan(value) else repr(float(value)) for value in values]
            rows.append(f"{t + 1},2013,3,{1 + t // 24},{t % 24},{','.join(cells[:-1])},NNW,{cells[-1]},{station}")
        name = f"PRSA_Data_{station}_20130301-20170228.csv"
        (tmp_path / "published/PRSA_Data_20130301-20170228" / name).write_text("\n".join(rows) + "\n")
    published, compact = (load("beijing", tmp_path / name) for name in ("published", "compact"))
    assert [s.id for s in published] == [s.id for s in compact] == ["Aa", "Bb"]
    assert published.columns == compact.columns == BEIJING_COLUMNS
    for one, other in zip(published, compact, strict=True):
        np.testing.assert_array_equal(one.times, other.times)
        np.testing.assert_array_equal(one.values, other.values)
    assert np.isnan(compact.series[1].values[7, 0])


def test_an_absent_table_is_named_with_its_publisher(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ETDataset"):
        load("etth1", tmp_path)


@pytest.mark.parametrize("name", ["etth1", "exchange", "beijing"])
def test_the_real_tables_give_their_windows(name: str, needs_data) -> None:
    needs_data({"etth1": "ett", "exchange": "exchange_rate", "beijing": "beijing_air"}[name])
    data = load(name)
    sizes = {"etth1": (1, 17_420, 7), "exchange": (1, 7_588, 8), "beijing": (12, 12 * 35_064, 6)}
    assert (len(data), data.n_rows, len(data.columns)) == sizes[name]
    case = Case.of(SPECS[name], data)
    assert len(case.row) == SPECS[name].origins * len(data)


# -- peers, verdict, the whole -----------------------------------------------------------------------------------------


def flat(case: Case, crps: float, coverage: dict[int, float]) -> Marks:
    shares = {level: np.full(case.truth.shape, share) for level, share in coverage.items()}
    return Marks(np.full(case.truth.shape, crps), np.full(case.truth.shape[:2], crps), shares)


def outcome(case: Case) -> harness.Outcome:
    """The VAR a little better in CRPS, the sequence SDE better calibrated, but at one horizon."""
    found = {name: flat(case, 1.0, {80: 0.9, 95: 0.99}) for name in harness.METHODS}
    found["VAR"] = flat(case, 0.99, {80: 0.9, 95: 0.99})
    found[harness.OURS] = flat(case, 1.0, {80: 0.78, 95: 0.96})
    found[harness.OURS].coverage[80][:, 2] = 0.84
    sizes = {harness.OURS: 100, harness.DEEPAR: 90}
    follows = {name: flat(case, 1.0, {80: 0.75, 95: 0.93}) for name in harness.METHODS}
    follows[harness.OURS] = flat(case, 1.0, {80: 0.81, 95: 0.94})
    return harness.Outcome(case, found, follows, dict.fromkeys(sizes, 1.0), sizes)


def test_the_verdict_takes_the_strongest_other_and_the_worst_horizon() -> None:
    record = table_record(outcome(toy()), "no file")
    one = verdict(record)
    assert one.worst_ratio[0] == "VAR"
    np.testing.assert_allclose(one.worst_ratio[1], 1 / 0.99)
    assert one.among_best
    assert not one.calibrated  # 84 % at one horizon
    assert one.best_calibrated[0] == harness.OURS
    rows = lines([record])
    assert [row["as fitted"].split(": ")[-1] for row in rows] == ["yes", "no", "no", "yes"]
    assert [row["widths that follow"].split(": ")[-1] for row in rows] == ["yes", "no", "yes", "yes"]


def test_the_verdict_counts_autoarima_on_its_series() -> None:
    """It is half as good on them, and further from nominal; then twice as good, and nearer."""
    case = toy()
    for crps, share, strongest, calibrated in ((2.0, 0.5, "VAR", harness.OURS), (0.5, 0.8, "AutoARIMA", "AutoARIMA")):
        coverage = {80: np.full(3, share), 95: np.full(3, share + 0.15)}
        peer = peers.Peer(peers.chosen(case), np.full(3, crps), coverage, "")
        one = verdict(table_record(outcome(case), peer))
        assert one.worst_ratio[0] == strongest
        np.testing.assert_allclose(one.ratios["AutoARIMA"], 1 / crps)
        assert one.best_calibrated[0] == calibrated


def test_options_are_told_as_they_are_set() -> None:
    settings = asdict(SETTINGS["exchange"])
    told = "history=10 level=false past_units=walk width=8 depth=1 tails=student reach=30 steps=600 weight_decay=10.0"
    assert options(settings) == told
    assert options(json.loads(json.dumps(settings))) == told


def test_what_the_same_command_left_is_found_again(tmp_path: Path) -> None:
    facts = opening("forecast", seed=0, seeds=1, full=False, size=experiment.Size())
    assert on_file(facts, tmp_path) == {}
    write_results("forecast", facts | {"tables": {"etth1": {}}}, "", tmp_path)
    assert on_file(facts, tmp_path)["tables"] == {"etth1": {}}
    assert on_file(opening("forecast", seed=1, seeds=1, full=False, size=experiment.Size()), tmp_path) == {}
    assert on_file(opening("forecast", seed=0, seeds=1, full=False, size=experiment.SMALL), tmp_path) == {}


def test_an_unset_folder_is_said_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NEURALSDE_DATA", raising=False)
    with pytest.raises(InputError, match="NEURALSDE_DATA is not set"):
        next(experiment.reproduce(out=tmp_path))
    assert not list(tmp_path.iterdir())


def test_autoarima_is_read_where_it_fits(tmp_path: Path) -> None:
    case = toy()
    assert "benchmarks/autoarima.py" in str(peers.read_peer(case, tmp_path))
    table = {
        "date": "2026-01-01", "fingerprint": case.fingerprint(), "series": [[0, 0], [0, 1]], "crps": [1.0, 2.0, 3.0],
        "coverage": {"80": [0.8] * 3, "95": [0.95] * 3},
    }  # fmt: skip
    saved = {"versions": {"statsforecast": "2.0"}, "tables": {"toy": table}}
    (tmp_path / peers.FILE).write_text(json.dumps(saved))
    peer = peers.read_peer(case, tmp_path)
    assert isinstance(peer, peers.Peer)
    assert peer.series == peers.chosen(case)
    own, share = peers.on_chosen(flat(case, 2.0, {80: 0.7, 95: 0.9}), case, peer.series)
    np.testing.assert_allclose(own, 2.0)
    np.testing.assert_allclose(share[95], 0.9)
    assert "other data or windows" in str(peers.read_peer(toy(seed=1), tmp_path))
