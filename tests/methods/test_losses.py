import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from methods.losses import (
    all_triplets,
    batch_hard_triplet,
    binomial_deviance,
    ranked_list,
    smoothed_cross_entropy,
)
from tests.methods.peak_memory import PeakMemory

MARGINS = ["soft", 0.0, 0.3]
RLL = (1.2, 0.4, 10.0)  # alpha, margin and temperature of the ranked list loss in its authors' code


def literal_triplet(features: Tensor, pids: Tensor, margin: float | str) -> Tensor:
    """The definition, anchor by anchor and candidate by candidate."""
    losses = []
    for a in range(len(pids)):
        positives, negatives = [features.new_zeros(())], []
        for j in range(len(pids)):
            if j != a:
                kind = positives if pids[j] == pids[a] else negatives
                kind.append((features[a] - features[j]).square().sum().sqrt())
        if not negatives:
            losses.append(features.new_zeros(()))
            continue
        gap = torch.stack(positives).max() - torch.stack(negatives).min()
        losses.append(torch.log(1 + gap.exp()) if margin == "soft" else (gap + margin).clamp(min=0))
    return torch.stack(losses).mean()


def assert_same_value_and_gradient(loss, expected, features):
    """A literal loss that sums nothing has no gradient of its own: 0 is expected then."""
    torch.testing.assert_close(loss, expected)
    gradient = torch.autograd.grad(loss, features)[0]
    if expected.requires_grad:
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, features)[0])
    else:
        assert not gradient.any()


@given(
    pids=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    dim=st.integers(1, 6),
    seed=st.integers(0, 99),
    margin=st.sampled_from(MARGINS),
)
@settings(max_examples=60, deadline=None)
def test_triplet_is_the_double_loop_in_value_and_gradient(pids, dim, seed, margin):
    torch.manual_seed(seed)
    features = torch.randn(len(pids), dim, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(pids)

    loss, expected = (f(features, labels, margin) for f in (batch_hard_triplet, literal_triplet))

    assert_same_value_and_gradient(loss, expected, features)


@pytest.mark.parametrize("margin", MARGINS)
def test_triplet_agrees_with_pytorch_metric_learning(margin):
    from pytorch_metric_learning.distances import LpDistance
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.miners import BatchHardMiner
    from pytorch_metric_learning.reducers import MeanReducer

    features, pids = torch.randn(24, 8, dtype=torch.float64), torch.arange(24) % 6
    distance = LpDistance(normalize_embeddings=False)
    soft = margin == "soft"
    oracle = TripletMarginLoss(
        margin=0 if soft else margin, smooth_loss=soft, distance=distance, reducer=MeanReducer()
    )

    expected = oracle(features, pids, BatchHardMiner(distance=distance)(features, pids))

    torch.testing.assert_close(batch_hard_triplet(features, pids, margin), expected)


def test_anchor_without_another_positive_still_pushes_its_nearest_negative():
    features, pids = torch.tensor([[0.0], [2.0], [5.0]]), torch.tensor([0, 1, 2])

    expected = sum(math.log(1 + math.exp(-d)) for d in (2, 2, 3)) / 3

    assert batch_hard_triplet(features, pids).item() == pytest.approx(expected)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("pids", [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 2, 3]])
def test_triplet_of_equal_features_has_a_finite_gradient(margin, pids):
    features = torch.ones(4, 3, requires_grad=True)

    batch_hard_triplet(features, torch.tensor(pids), margin).backward()

    assert features.grad is not None and features.grad.isfinite().all()


def test_triplet_tells_apart_neighbours_that_matrix_products_would_merge():
    features = torch.tensor([[1000.0, 0.0], [1000.0, 0.01], [1000.0, 0.5], [1000.0, 0.6]], requires_grad=True)
    pids = torch.tensor([0, 1, 0, 1])

    expected = literal_triplet(features.double(), pids, "soft").item()

    assert batch_hard_triplet(features, pids).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5])
def test_smoothed_targets_are_one_minus_epsilon_onehot_plus_epsilon_over_k(epsilon):
    logits, pids = torch.randn(5, 7, dtype=torch.float64), torch.tensor([0, 6, 3, 3, 1])
    targets = torch.full((5, 7), epsilon / 7, dtype=torch.float64)
    targets[range(5), pids] += 1 - epsilon

    expected = -(targets * logits.log_softmax(1)).sum(1).mean()

    torch.testing.assert_close(smoothed_cross_entropy(logits, pids, epsilon), expected)


def test_anchor_without_a_negative_costs_nothing_however_far_its_positives():
    features = torch.tensor([[0.0], [1e6], [3e6]])

    assert batch_hard_triplet(features, torch.tensor([0, 0, 0])) == 0


@pytest.mark.parametrize("autocast", [True, False])
def test_losses_of_bfloat16_features_are_float32(autocast):
    x, pids = torch.randn(8, 16).bfloat16(), torch.arange(8) % 4

    def losses(x: Tensor) -> list[Tensor]:
        return [batch_hard_triplet(x, pids), smoothed_cross_entropy(x, pids, 0.1), ranked_list(x, pids, *RLL)]

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = losses(x)

    torch.testing.assert_close(found, losses(x.float()), rtol=0, atol=0)


# The ranked list loss


def literal_ranked_list(
    features: Tensor, pids: Tensor, alpha: float, margin: float, temperature: float
) -> Tensor:
    """The definition, anchor by anchor and image by image, with weights that are numbers."""
    unit = features / features.square().sum(1, keepdim=True).sqrt()
    losses = []
    for a in range(len(pids)):
        loss = features.new_zeros(())
        positives, negatives = [], []
        for j in range(len(pids)):
            d = (unit[a] - unit[j]).square().sum().sqrt()
            if j != a and pids[j] == pids[a] and d > alpha - margin:
                positives.append(d - (alpha - margin))
            if pids[j] != pids[a] and d < alpha:
                negatives.append(alpha - d)
        if positives:
            loss = loss + sum(positives) / len(positives)
        if negatives:
            weights = [math.exp(temperature * violation.item()) for violation in negatives]
            loss = loss + sum(w * v for w, v in zip(weights, negatives, strict=True)) / sum(weights)
        losses.append(loss)
    return torch.stack(losses).mean()


@given(
    pids=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    dim=st.integers(2, 6),
    seed=st.integers(0, 99),
    constants=st.sampled_from([RLL, (2.0, 1.3, 1.0), (0.5, 0.4, 0.0), (1.2, 1.3, 10.0)]),
)
@settings(max_examples=60, deadline=None)
def test_ranked_list_is_the_double_loop_in_value_and_gradient(pids, dim, seed, constants):
    torch.manual_seed(seed)
    features = torch.randn(len(pids), dim, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(pids)

    loss, expected = (f(features, labels, *constants) for f in (ranked_list, literal_ranked_list))

    assert_same_value_and_gradient(loss, expected, features)


@pytest.mark.parametrize("constants", [RLL, (1.0, 0.2, 2.0)])
def test_ranked_list_is_twice_that_of_pytorch_metric_learning_which_halves_both_parts(constants):
    from pytorch_metric_learning.losses import RankedListLoss

    alpha, margin, temperature = constants
    features, pids = torch.randn(24, 3, dtype=torch.float64), torch.arange(24) % 6
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of temperatures above 5
        oracle = RankedListLoss(margin, temperature, imbalance=0.5, alpha=alpha)

    # It adds 1e-5 to each weight of its denominators, which are the number of positives or so.
    torch.testing.assert_close(
        ranked_list(features, pids, *constants), 2 * oracle(features, pids), rtol=1e-3, atol=0
    )


def test_ranked_list_of_a_worked_example():
    angles = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)  # distances are 2 sin(angle / 2)
    features, pids = torch.stack([angles.cos(), angles.sin()], 1) * 7, torch.tensor([0, 1, 0])
    near, middle, far = (2 * math.sin(angle / 2) for angle in (0.5, 1.5, 2.0))
    assert near < 1.2 < middle < far  # so the last has no negative, and the middle one no positive

    expected = ((far - 0.8) + (1.2 - near) + (1.2 - near) + (far - 0.8)) / 3

    assert ranked_list(features, pids, *RLL).item() == pytest.approx(expected)


def test_hotter_weights_count_the_nearest_negative_more():
    features = F.normalize(torch.randn(12, 3, dtype=torch.float64))
    pids = torch.arange(12)

    cold, warm, hot = (ranked_list(features, pids, 1.2, 0.4, t).item() for t in (0.0, 10.0, 1000.0))

    d = torch.cdist(features, features) + 2 * torch.eye(12)
    assert cold < warm < hot
    assert hot == pytest.approx((1.2 - d.min(1).values).clamp_min(0).mean().item(), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("pids", [[0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 2, 3]])
@pytest.mark.parametrize("feature", [[2.0, 0.0, 0.0], [3.0, -0.1, 7.7], [0.0, 0.0, 0.0]])
def test_ranked_list_of_equal_features_does_not_move_them(feature, pids, dtype):
    features = torch.tensor([feature] * 4, dtype=dtype, requires_grad=True)

    loss = ranked_list(features, torch.tensor(pids), *RLL)
    loss.backward()

    assert loss.isfinite() and features.grad is not None
    assert features.grad.isfinite().all() and features.grad.abs().max() < 1e-3


def test_ranked_list_has_a_shape_where_tensors_have_no_numbers():
    loss = ranked_list(
        torch.empty(6, 4, device="meta"), torch.empty(6, dtype=torch.long, device="meta"), *RLL
    )

    assert loss.shape == ()


def test_ranked_list_costs_nothing_where_everything_is_in_place():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]], requires_grad=True)

    loss = ranked_list(features, torch.tensor([0, 0, 1, 1]), *RLL)
    loss.backward()

    assert loss == 0 and not features.grad.any()


def literal_all_triplets(
    features: Tensor, pids: Tensor, margin: float, similarity: str, mean_over: str
) -> Tensor:
    """Equations 6 and 7 of PABR, triplet by triplet."""
    f = features / features.norm(dim=1, keepdim=True)
    images = range(len(pids))

    def sim(i: int, j: int) -> Tensor:
        return f[i] @ f[j] if similarity == "inner product" else -(f[i] - f[j]).square().sum()

    costs = [
        (margin + sim(q, n) - sim(q, p)).clamp(min=0)
        for q in images
        for p in images
        for n in images
        if q != p and pids[q] == pids[p] and pids[q] != pids[n]
    ]
    counted = [c for c in costs if mean_over == "all" or c > 0]
    return sum(costs, features.new_zeros(())) / max(len(counted), 1)


@given(
    pids=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    dim=st.integers(2, 6),
    seed=st.integers(0, 99),
    margin=st.sampled_from([0.0, 0.2, 1.0]),
    similarity=st.sampled_from(["squared distance", "inner product"]),
    mean_over=st.sampled_from(["violating", "all"]),
)
@settings(max_examples=60, deadline=None)
def test_all_triplets_is_the_triple_loop_in_value_and_gradient(
    pids, dim, seed, margin, similarity, mean_over
):
    torch.manual_seed(seed)
    features = torch.randn(len(pids), dim, dtype=torch.float64, requires_grad=True)
    arguments = features, torch.tensor(pids), margin, similarity, mean_over

    loss, expected = (f(*arguments) for f in (all_triplets, literal_all_triplets))

    assert_same_value_and_gradient(loss, expected, features)


@pytest.mark.parametrize(
    "pids", [[0, 1, 2, 3], [5, 5, 5, 5], [0]], ids=["no positive", "no negative", "one image"]
)
@pytest.mark.parametrize("mean_over", ["violating", "all"])
def test_batches_without_triplets_cost_nothing(pids, mean_over):
    features = torch.randn(len(pids), 3, requires_grad=True)

    loss = all_triplets(features, torch.tensor(pids), 0.2, "squared distance", mean_over)
    loss.backward()

    assert loss.item() == 0
    assert not features.grad.any()


def test_a_margin_on_squared_distances_is_half_as_much_on_inner_products():
    features, pids = torch.randn(8, 4, dtype=torch.float64), torch.arange(8) % 3

    distances = all_triplets(features, pids, 0.4, "squared distance", "all")

    torch.testing.assert_close(distances, 2 * all_triplets(features, pids, 0.2, "inner product", "all"))


def test_all_triplets_are_compared_in_float32_under_autocast():
    features, pids = torch.randn(8, 4), torch.arange(8) % 3

    with torch.autocast("cpu", torch.bfloat16):
        loss = all_triplets(features, pids, 0.2, "squared distance", "violating")

    assert torch.equal(loss, all_triplets(features, pids, 0.2, "squared distance", "violating"))


def test_all_triplets_keep_pairs_times_images_and_no_more():
    features, pids = torch.randn(180, 16), torch.arange(180) // 10
    pairs_times_images = 4 * (180 * 9) * 180  # bytes

    with PeakMemory() as memory:
        all_triplets(features, pids, 0.2, "squared distance", "violating")

    assert memory.largest == pairs_times_images
    assert memory.peak < 5 * pairs_times_images


# Binomial deviance


def literal_deviance(similarity: Tensor, same: Tensor, alpha: float, beta: float) -> Tensor:
    """Eq. 5 of arXiv:1707.07074, pair by pair."""
    n1 = int(same.sum())
    total = similarity.new_zeros(())
    for s, positive in zip(similarity.flatten(), same.flatten().tolist(), strict=True):
        m, w = (1, 1 / n1) if positive else (-1, 1 / (same.numel() - n1))
        total = total + w * torch.log(torch.exp(-alpha * (s - beta) * m) + 1)
    return total


@given(
    same=st.lists(st.booleans(), min_size=1, max_size=9),
    constants=st.sampled_from([(2.0, 0.5), (10.0, -0.3), (0.5, 0.0)]),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_deviance_is_the_sum_over_pairs_in_value_and_gradient(same, constants, seed):
    torch.manual_seed(seed)
    similarity = (2 * torch.rand(len(same), dtype=torch.float64) - 1).requires_grad_()
    mask = torch.tensor(same)

    loss, expected = (f(similarity, mask, *constants) for f in (binomial_deviance, literal_deviance))

    assert_same_value_and_gradient(loss, expected, similarity)


@pytest.mark.parametrize("positives", [1, 3, 7])
def test_deviance_has_all_digits_of_float64(positives):
    torch.manual_seed(0)
    s, same = 2 * torch.rand(10, dtype=torch.float64) - 1, torch.arange(10) < positives

    found, expected = (f(s, same, 2.0, 0.5) for f in (binomial_deviance, literal_deviance))

    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_deviance_of_a_matrix_is_that_of_its_entries():
    s, same = torch.randn(3, 4), torch.arange(12).view(3, 4) % 3 == 0

    loss = binomial_deviance(s, same, 2.0, 0.5)

    assert torch.equal(loss, binomial_deviance(s.flatten(), same.flatten(), 2.0, 0.5))


def test_deviance_weighs_both_kinds_alike_however_rare_one_is():
    s, same = torch.full((1000,), 0.5), torch.arange(1000) == 7

    assert binomial_deviance(s, same, 2.0, 0.5).item() == pytest.approx(2 * math.log(2))
    assert binomial_deviance(s, torch.ones_like(same), 2.0, 0.5).item() == pytest.approx(math.log(2))
    assert binomial_deviance(s[:0], same[:0], 2.0, 0.5) == 0


def test_deviance_is_finite_and_float32_whatever_it_gets():
    s, same = torch.tensor([-1e4, 1e4], dtype=torch.bfloat16).requires_grad_(), torch.tensor([True, False])

    loss = binomial_deviance(s, same, 2.0, 0.5)
    loss.backward()

    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(4e4, rel=0.01)
    assert s.grad is not None and s.grad.isfinite().all()
