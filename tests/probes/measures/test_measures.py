"""Measurements against brute force in numpy, scipy and everyday PyTorch, and against theory."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from tests.probes.reference import Reference
from tests.probes.stacks import stack
from workbench.probes import Probe
from workbench.probes.measures.base import find_measure, measures
from workbench.probes.measures.fourier import fourier_power
from workbench.probes.measures.moments import moments
from workbench.probes.measures.neural_collapse import collapse_statistics
from workbench.probes.measures.noise_scale import split_gradient
from workbench.probes.measures.replica import Replica
from workbench.probes.measures.sharpness import hessian_product, lanczos
from workbench.probes.trainer import train

TINY = Probe(
    vocab=11, width=4, depth=1, heads=2, context=6, mlp_ratio=2, batch_tokens=96, tokens=96 * 60, lr=0.02, evals=2
)


@pytest.fixture(scope="module")
def trained():
    """Two members after some steps: nothing is zero any more."""
    ensemble = stack([TINY, TINY.replace(seed=1, lr=0.05)])
    ensemble.advance(40)
    return ensemble


def reference(ensemble, member):
    """The member as an nn.Module in float64, and its next batch as tokens [B, T + 1]."""
    module = Reference(ensemble.probes[member])
    for name, w in ensemble.weights.master.items():
        value = w[member] if name in ("embedding", "positions") else w[member].T
        module.place(name).data.copy_(value)
    tokens = ensemble.data.block(ensemble.step, 1)[0][0, member].long()
    return module.double(), tokens


def test_moments_against_scipy():
    x = torch.tensor(np.random.default_rng(0).gamma(2.0, 3.0, (3, 7, 5)))
    for member, found in enumerate(zip(*moments(x).values(), strict=True)):
        one = x[member].numpy().ravel()
        expected = (one.mean(), math.sqrt((one**2).mean()), stats.kurtosis(one, fisher=False))
        assert [float(v) for v in found] == pytest.approx(expected, rel=1e-12)


def test_gradients_and_norms_against_a_module(trained):
    columns = find_measure("gradients")(trained) | find_measure("weight_norms")(trained)
    for member in range(2):
        module, tokens = reference(trained, member)
        module.loss(tokens).backward()
        for name, w in trained.weights.master.items():
            grad = module.place(name).grad
            assert float(columns[f"grad_rms.{name}"][member]) == pytest.approx(
                float(grad.square().mean().sqrt()), rel=1e-4
            )
            assert float(columns[f"norm.{name}"][member]) == pytest.approx(float(w[member].double().norm()), rel=1e-10)
    total = sum(columns[f"norm.{name}"] ** 2 for name in trained.weights.master)
    torch.testing.assert_close(columns["norm"] ** 2, total)


def test_activations_scores_and_log_z_against_numpy(trained):
    names = ("activations", "attention_logits", "log_z")
    columns = {k: v for name in names for k, v in find_measure(name)(trained).items()}
    for member in range(2):
        w = {name: x[member].double().numpy() for name, x in trained.weights.master.items()}
        x = trained.batch(trained.step)[0][member].numpy()
        stream = w["embedding"][x] + w["positions"]
        normed = stream / np.sqrt((stream**2).mean(-1, keepdims=True) + 1e-6)
        q, k, v = np.split(normed @ w["0.qkv"], 3, -1)
        scores, mixed = [], []
        for head in (slice(0, 2), slice(2, 4)):
            s = q[..., head] @ k[..., head].swapaxes(-1, -2) / math.sqrt(2)
            s = np.where(np.tril(np.ones((6, 6), bool)), s, -np.inf)
            scores.append(s)
            p = np.exp(s - s.max(-1, keepdims=True))
            mixed.append(p / p.sum(-1, keepdims=True) @ v[..., head])
        attention = np.concatenate(mixed, -1) @ w["0.attention_out"]
        assert float(columns["attn_logit_max.0"][member]) == pytest.approx(np.max(scores), rel=1e-5)
        assert float(columns["attn_logit_max"][member]) == pytest.approx(np.max(scores), rel=1e-5)
        assert float(columns["act_rms.0.attention"][member]) == pytest.approx(
            math.sqrt((attention**2).mean()), rel=1e-5
        )
        logits = trained.predict(trained.batch(trained.step)[0])[member].double().numpy()
        z = np.log(np.exp(logits).sum(-1))
        assert float(columns["log_z_mean"][member]) == pytest.approx(z.mean(), rel=1e-5)
        assert float(columns["log_z_rms"][member]) == pytest.approx(math.sqrt((z**2).mean()), rel=1e-5)
        assert float(columns["log_z_max"][member]) == pytest.approx(z.max(), rel=1e-5)
        assert float(columns["act_rms.output"][member]) == pytest.approx(math.sqrt((logits**2).mean()), rel=1e-5)


def dense_hessian(module, tokens):
    """[P, P] in float64 by differentiating twice, in the order of `named_parameters`."""
    names, values = zip(*module.named_parameters(), strict=True)

    def loss(*weights):
        given = dict(zip(names, weights, strict=True))
        logits = torch.func.functional_call(module, given, (tokens[:, :-1],))
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        blocks = torch.autograd.functional.hessian(loss, values)
    sizes = [v.numel() for v in values]
    return torch.cat(
        [torch.cat([b.reshape(n, -1) for b in row], 1) for n, row in zip(sizes, blocks, strict=True)]
    ).detach()


def test_sharpness_against_the_whole_hessian(trained):
    columns = find_measure("sharpness")(trained)
    for member in range(2):
        values = torch.linalg.eigvalsh(dense_hessian(*reference(trained, member)))
        assert float(columns["sharpness"][member]) == pytest.approx(float(values[-1]), rel=2e-3)
        assert float(columns["hessian.2"][member]) == pytest.approx(float(values[-2]), rel=5e-3)
        assert float(columns["hessian.3"][member]) == pytest.approx(float(values[-3]), rel=2e-2)
        # a Ritz value lies inside the spectrum
        assert float(columns["hessian.min"][member]) >= float(values[0]) * 1.01 - 1e-3
        lr = trained.optimizer.lr[trained.step - 1, member]
        assert float(columns["sharpness_lr"][member]) == pytest.approx(float(values[-1]) * lr / 2, rel=2e-3)


def test_products_with_the_hessian_are_accurate_over_a_decade_of_steps(trained):
    replica = Replica(trained)
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(replica.weights.data.shape, generator=generator, dtype=torch.float64)
    v[:, replica.weights.size :] = 0
    v /= v.norm(dim=1, keepdim=True)
    found = [hessian_product(replica, replica.batch(), share)(v) for share in (3e-4, 1e-3, 3e-3)]
    for one in (found[0], found[2]):
        assert float((one - found[1]).norm() / found[1].norm()) < 5e-3
    assert torch.equal(replica.weights.data, trained.weights.data)


def test_lanczos_finds_the_spectrum_of_a_matrix():
    rng = np.random.default_rng(0)
    matrices, wanted = [], np.stack([np.r_[np.linspace(-1, 1, 37), 4, 7, 20], np.r_[np.zeros(37), -9, 2, 3]])
    for values in wanted:
        q, _ = np.linalg.qr(rng.standard_normal((40, 40)))
        matrices.append(q * values @ q.T)
    a, start = torch.tensor(np.stack(matrices)), torch.tensor(rng.standard_normal((2, 40)))
    found = lanczos(lambda v: (a @ v[..., None])[..., 0], start, 20)
    np.testing.assert_allclose(found[0, -3:].numpy(), [4, 7, 20], rtol=1e-8)
    # the second has four distinct eigenvalues, so its space ends after four steps
    assert float(found[1, 0]) == pytest.approx(-9)
    np.testing.assert_allclose(found[1, -2:].numpy(), [2, 3], rtol=1e-8)
    whole = lanczos(lambda v: (a[:1] @ v[..., None])[..., 0], start[:1], 40)
    np.testing.assert_allclose(whole[0].numpy(), np.sort(wanted[0]), atol=1e-8)


def test_a_diverged_member_has_no_spectrum_and_its_neighbour_keeps_its_own():
    a = torch.randn(2, 30, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    a = a + a.mT
    start = torch.randn(1, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).expand(2, -1)
    whole = lanczos(lambda v: (a @ v[..., None])[..., 0], start, 30)
    a[1] = torch.inf
    found = lanczos(lambda v: (a @ v[..., None])[..., 0], start, 30)
    assert torch.equal(found[0], whole[0]) and bool(found[1].isnan().all())


def test_noise_is_split_from_the_gradient_without_bias():
    rng = np.random.default_rng(0)
    p, k, repeats = 30, 4, 4000
    mean, deviations = np.full(p, 0.2), np.linspace(0.1, 1, p)
    draws = mean + deviations * rng.standard_normal((k, repeats, p))
    square, trace = split_gradient(torch.tensor(draws))
    for estimate, truth in ((square, (mean**2).sum()), (trace, (deviations**2).sum())):
        error = float(estimate.std()) / math.sqrt(repeats)
        assert abs(float(estimate.mean()) - truth) < 4 * error
        assert error < 0.02 * truth
    with pytest.raises(ValueError, match="at least 2 batches"):
        split_gradient([torch.ones(1, 3)])


def test_the_noise_scale_is_that_of_single_sequences(trained):
    # brute force: the covariance of the gradients of 3000 sequences taken one by one, as members of large stacks
    probe, sequences = trained.probes[0], TINY.batch_tokens // TINY.context
    single = stack([probe.replace(batch_tokens=TINY.context, tokens=TINY.context)] * 100)
    single.weights.data.copy_(trained.weights.data[:1].expand(100, -1))
    tokens = trained.data.block(100, -(-3000 // sequences))[0][:, 0].long().flatten(0, 1)  # [3000+, T + 1]
    grads = []
    for part in tokens[:3000].split(100):
        loss = single.loss(part[:, None, :-1], part[:, 1:])
        single.weights.backward(loss.sum())
        grads.append(single.weights.grad.double().numpy().copy())
    grads = np.concatenate(grads)
    variance = grads.var(0, ddof=1).sum()
    square = (grads.mean(0) ** 2).sum() - variance / len(grads)
    found = []
    for ahead in range(0, 320, 8):  # forty independent estimates
        trained.step += ahead
        found.append(find_measure("noise_scale")(trained))
        trained.step -= ahead
    for name, truth, unit in (("grad_variance", variance, sequences), ("grad_square", square, 1)):
        values = unit * np.array([float(one[name][0]) for one in found])
        # both sides are estimates: from 10 * 8 * 16 sequences and from 3000
        error = values.std(ddof=1) / math.sqrt(10) * math.sqrt(1 + 1280 / 3000)
        assert abs(values.mean() - truth) < 4 * error
        assert error < 0.15 * truth
    one = found[0]
    torch.testing.assert_close(one["noise_scale"], TINY.batch_tokens * one["grad_variance"] / one["grad_square"])


def test_gradients_in_units_of_epsilon():
    probe = TINY.replace(eps=1e-3, beta2=0.9)
    ensemble = stack([probe, probe.replace(eps=1e-5)])
    ensemble.advance(5)
    columns, rms = find_measure("grad_eps")(ensemble), find_measure("gradients")(ensemble)
    for name in ensemble.weights.master:
        expected = rms[f"grad_rms.{name}"] / torch.tensor([1e-3, 1e-5], dtype=torch.float64)
        torch.testing.assert_close(columns[f"grad_eps.{name}"], expected, rtol=1e-9, atol=0)
    assert float(columns["grad_eps"][0]) == min(float(columns[f"grad_eps.{n}"][0]) for n in ensemble.weights.master)
    v = ensemble.optimizer.rule.slots["v"][0, : ensemble.weights.size].double().numpy() / (1 - 0.9**5)
    assert float(columns["below_eps"][0]) == pytest.approx((np.sqrt(v) < 1e-3).mean())
    assert 0 < float(columns["below_eps"][0]) < 1
    # behind a head of zeros only the head has a gradient
    fresh = stack([TINY])
    first = find_measure("grad_eps")(fresh)
    assert float(first["grad_eps"]) == float(first["grad_eps.head"]) > 0
    assert find_measure("grad_eps")(stack([TINY.replace(optimizer="sgd")])) == {}


@pytest.mark.parametrize("p", [31, 32])
def test_fourier_power_of_known_waves(p):
    a = np.arange(p)[:, None] * 2 * np.pi / p
    # amplitude 3 at frequency 2 and 4 at frequency 5, in several columns and phases, on a constant
    table = np.hstack([7 + 3 * np.cos(2 * a), 3 * np.sin(2 * a), 4 * np.cos(5 * a + 1), 4 * np.cos(5 * a - 2)])
    share = fourier_power(torch.tensor(table)).numpy()
    assert share[[1, 4]] == pytest.approx([9 / 25, 16 / 25])
    assert share.sum() == pytest.approx(1)
    noise = fourier_power(torch.tensor(np.random.default_rng(0).standard_normal((p, 4000)))).numpy()
    # white noise has equal variance in every frequency; the highest of an even p has one wave instead of two
    waves = np.array([2.0] * ((p - 1) // 2) + [1.0] * (p % 2 == 0))
    np.testing.assert_allclose(noise, waves / waves.sum(), rtol=0.2 if p % 2 else 0.7)


def simplex(c, d, r):
    q, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((d, c)))
    m = (np.eye(c) - 1 / c) @ q.T
    return r * m / np.linalg.norm(m, axis=1, keepdims=True)


def test_a_collapsed_classifier_has_zeros_and_noise_what_theory_says():
    c, d, n, r, sigma = 5, 12, 2000, 3.0, 0.2
    means, y = simplex(c, d, r), np.repeat(np.arange(c), n)
    exact = collapse_statistics(torch.tensor(means[y]), torch.tensor(y), torch.tensor(2 * means.T))
    assert exact == pytest.approx(dict.fromkeys(exact, 0.0), abs=1e-10)
    noisy = torch.tensor(means[y] + sigma * np.random.default_rng(0).standard_normal((c * n, d)))
    found = collapse_statistics(noisy, torch.tensor(y), torch.tensor(2 * means.T))
    # S_W = sigma^2 I; S_B has C - 1 eigenvalues r^2 / (C - 1)
    assert found["nc1"] == pytest.approx(sigma**2 * (c - 1) ** 2 / r**2 / c, rel=0.03)
    assert found["nc2_norm"] < 0.01
    # equally long but orthogonal, not centred: cosines of centred means are those of a simplex all the same
    random = np.random.default_rng(2).standard_normal((c, d))
    other = collapse_statistics(torch.tensor(random[y]), torch.tensor(y), torch.tensor(random.T[:, ::-1].copy()))
    assert other["nc2_norm"] > 0.02 and other["nc2_angle"] > 0.05 and other["nc3"] > 0.5 and other["nc4"] > 0
    alone = collapse_statistics(torch.tensor(means[y[:5]]), torch.tensor(y[:5]), torch.tensor(means.T))
    assert all(math.isnan(value) for value in alone.values())


def test_vanished_losses_are_counted():
    ensemble = stack([TINY])
    head = ensemble.weights.master["head"]
    head.copy_(torch.randn(head.shape, generator=torch.Generator().manual_seed(0)))
    found = find_measure("softmax_collapse")
    assert float(found(ensemble)["zero_loss"]) == 0
    head.mul_(1000)
    logits = ensemble.predict(ensemble.batch(0)[0])[0].flatten(0, 1)
    y = ensemble.batch(0)[1][0]
    others = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    margin = logits.gather(1, y[:, None])[:, 0] - others
    # exp(-margin) is lost beside 1 in float32 from 16.6 on
    assert float((margin > 30).double().mean()) <= float(found(ensemble)["zero_loss"])
    assert float(found(ensemble)["zero_loss"]) <= float((margin > 12).double().mean())
    assert float(found(ensemble)["zero_loss"]) > 0


def test_groups_come_from_the_task_that_knows_some(trained):
    assert find_measure("group_loss")(trained) == {}
    trained.data.group_losses = lambda predict: {"rare": torch.tensor([1.0, 2.0], dtype=torch.float64)}
    try:
        assert find_measure("group_loss")(trained)["loss.rare"].tolist() == [1.0, 2.0]
    finally:
        del trained.data.group_losses


def curves(result):
    return [{k: v for k, v in record.items() if k != "seconds"} for record in result.records]


ODD = Probe(vocab=19, width=6, depth=2, heads=3, context=7, batch_tokens=35, tokens=35 * 6, evals=1)


@pytest.mark.parametrize("changes", [{}, {"clip": 0.5, "layer_rates": {"0.": 0.0}}, {"precision": "e4m3"}])
def test_measuring_changes_nothing_and_does_not_see_neighbours(changes):
    base = ODD.replace(ema_profiles=(0.05, 0.1), **changes)
    everything = [base.replace(measure=list(measures()), seed=seed, lr=0.01 * (seed + 1)) for seed in range(3)]
    stacked = train(everything, "cpu")
    for index in (0, 2):
        (blind,) = train([everything[index].replace(measure=())], "cpu")
        assert torch.equal(blind.weights, stacked[index].weights)
        assert blind.loss == stacked[index].loss
        assert blind.records[-1].keys() < stacked[index].records[-1].keys()
    (solo,) = train(everything[1:2], "cpu")
    assert repr(curves(solo)) == repr(curves(stacked[1]))  # repr: NaN is itself


def test_measures_are_listed_and_unknown_names_refused():
    assert all(name == one.name and one.doc.endswith(".") for name, one in measures().items())
    with pytest.raises(ValueError, match="choose of activations"):
        TINY.replace(measure=["sharpnes"])


def test_full_batch_gradient_descent_goes_to_the_edge_of_stability():
    # Cohen et al. 2021 (arXiv 2103.00065): sharpness rises to 2 / lr and stays there; a small lr never gets so far
    base = Probe(
        task="modular_arithmetic", model="mlp", optimizer="sgd", form="one_hot", modulus=7, objective="squared",
        activation="tanh", width=32, depth=2, batch_tokens=24, tokens=24 * 1000, warmup=0.0, schedule="constant",
        evals=2, eval_spacing="linear", measure=["sharpness"],
    )  # fmt: skip
    *edge, calm = train([base.replace(lr=lr) for lr in (0.4, 0.2, 0.1, 0.01)], "cpu")
    for result in edge:
        start, _, end = result.records
        assert abs(start["sharpness_lr"] - 1) > 0.1
        assert end["sharpness_lr"] == pytest.approx(1, abs=0.03)
        assert end["train_loss"] < 0.5 * result.records[1]["train_loss"]
    assert calm.records[-1]["sharpness_lr"] < 0.2
    assert calm.records[-1]["sharpness"] > calm.records[0]["sharpness"]  # progressive sharpening
