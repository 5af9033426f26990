"""The mixture, and gradients of its log-likelihood: by hand, by autograd, and as they are stored."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from methods.fisher_vectors import VARIANCE_FLOOR, FisherVectors, sample
from retable.errors import SpecError


def fitted(k=3, d=4, n=200, seed=0):
    torch.manual_seed(seed)
    centres = 3 * torch.randn(k, d, dtype=torch.float64)
    vectors = FisherVectors(d, k)
    vectors.fit((centres[torch.randint(k, (n,))] + torch.randn(n, d)).numpy())
    return vectors


def literal(x, w, mu, var):
    """Perronnin et al. 2010, section 2: sums over descriptors t and Gaussians i, one at a time."""
    by_mean, by_deviation = np.zeros_like(mu), np.zeros_like(mu)
    for x_t in x:
        u = np.array(
            [
                w[i] * np.prod(np.exp(-((x_t - mu[i]) ** 2) / (2 * var[i])) / np.sqrt(2 * np.pi * var[i]))
                for i in range(len(w))
            ]
        )
        gamma = u / u.sum()
        for i in range(len(w)):
            z = (x_t - mu[i]) / np.sqrt(var[i])
            by_mean[i] += gamma[i] * z / (len(x) * np.sqrt(w[i]))
            by_deviation[i] += gamma[i] * (z**2 - 1) / (len(x) * np.sqrt(2 * w[i]))
    return by_mean, by_deviation


def improved(*gradients):
    whole = np.concatenate([g.ravel() for g in gradients])
    whole = np.sign(whole) * np.sqrt(np.abs(whole))
    return whole / np.linalg.norm(whole)


@pytest.mark.parametrize("seed", range(3))
def test_fisher_vectors_are_the_papers(seed):
    fisher = fitted(seed=seed)
    x = 2 * torch.randn(2, 7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))

    found = fisher(x)

    w, mu, var = (b.numpy() for b in (fisher.weights, fisher.means, fisher.variances))
    for i in range(2):
        by_mean, by_deviation = literal(x[i].numpy(), w, mu, var)
        expected = improved(by_mean, -by_deviation)  # scikit-image's sign
        np.testing.assert_allclose(found[i].numpy(), expected, rtol=1e-4, atol=1e-6)


def test_gradients_are_those_of_the_log_likelihood():
    """Autograd of the likelihood is a second oracle, of the directions within each Gaussian."""
    fisher = fitted()
    x = 2 * torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mu, deviation = fisher.means.clone().requires_grad_(), fisher.variances.sqrt().requires_grad_()
    of_each = torch.distributions.Normal(mu, deviation).log_prob(x[:, None]).sum(2) + fisher.weights.log()

    of_each.logsumexp(1).mean().backward()

    w, root = fisher.weights.sqrt()[:, None], fisher.variances.sqrt()
    expected = improved((mu.grad * root / w).numpy(), (-deviation.grad * root / (2**0.5 * w)).numpy())
    np.testing.assert_allclose(fisher(x[None])[0].numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("channels", "gaussians", "columns"), [(512, 64, 65_536), (80, 256, 40_960)])
def test_sizes_of_the_paper(channels, gaussians, columns):
    vectors = FisherVectors(channels, gaussians)(torch.randn(1, 14, channels))

    assert vectors.shape == (1, columns)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(1))


def test_order_of_descriptors_does_not_matter():
    fisher, x = fitted(), torch.randn(1, 9, 4)

    torch.testing.assert_close(fisher(x), fisher(x[:, torch.randperm(9)]))


def test_what_was_fitted_is_in_the_state_dict():
    first, second = fitted(seed=1), FisherVectors(4, 3)
    x = torch.randn(2, 5, 4)

    second.load_state_dict(first.state_dict())

    assert torch.equal(first(x), second(x))
    assert not torch.equal(first(x), FisherVectors(4, 3)(x))


def test_fitting_is_decided_by_the_seed():
    x = np.random.default_rng(0).normal(size=(100, 4))

    def state(seed):
        torch.manual_seed(seed)
        vectors = FisherVectors(4, 8)
        vectors.fit(x)
        return vectors.state_dict()

    a, b, c = state(0), state(0), state(1)

    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["means"], c["means"])


def test_a_column_that_never_changes_does_not_outweigh_others():
    x = np.random.default_rng(0).normal(size=(100, 2)) * [10.0, 0.0]
    fisher = FisherVectors(2, 2)

    fisher.fit(x)

    assert fisher.variances[:, 1].min() == pytest.approx(VARIANCE_FLOOR * x[:, 0].var())


def test_too_few_descriptors_are_named():
    with pytest.raises(SpecError, match="5 local descriptors cannot make 8 Gaussians"):
        FisherVectors(2, 8).fit(np.zeros((5, 2)))


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 20), st.integers(0, 99))
def test_a_sample_is_of_different_rows_of_all_batches(lengths, count, seed):
    rows = np.arange(sum(lengths), dtype=np.float32)[:, None]
    torch.manual_seed(seed)

    found = sample(np.split(rows, np.cumsum(lengths)[:-1]), count)

    assert found.dtype == np.float64
    assert len(found) == len(np.unique(found)) == min(count, len(rows))
    assert np.isin(found, rows).all()


def test_each_row_is_as_likely_to_be_in_a_sample():
    torch.manual_seed(0)
    rows = np.arange(30.0)[:, None]

    counts = sum(np.isin(rows, sample(np.split(rows, [3, 20]), 6)).astype(int) for _ in range(1000))

    assert abs(counts - 200).max() < 5 * (1000 * 0.2 * 0.8) ** 0.5


def test_without_images_there_is_nothing_to_sample():
    with pytest.raises(SpecError, match="no training images"):
        sample([], 3)
