import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from methods.losses import batch_hard_triplet, smoothed_cross_entropy

MARGINS = ["soft", 0.0, 0.3]


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

    torch.testing.assert_close(loss, expected)
    gradient = torch.autograd.grad(loss, features)[0]
    if expected.requires_grad:
        torch.testing.assert_close(gradient, torch.autograd.grad(expected, features)[0])
    else:
        assert not gradient.any()


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

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = batch_hard_triplet(x, pids), smoothed_cross_entropy(x, pids, 0.1)

    expected = batch_hard_triplet(x.float(), pids), smoothed_cross_entropy(x.float(), pids, 0.1)
    torch.testing.assert_close(losses, expected, rtol=0, atol=0)
