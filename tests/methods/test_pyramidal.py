import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from methods import METHODS
from methods.losses import batch_hard_triplet
from methods.pyramidal import DynamicTraining, Pyramidal, PyramidalOptions
from retable.errors import SpecError

SLIM = {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 16)}
IMAGES = torch.randn(8, 3, 96, 32, generator=torch.Generator().manual_seed(0))  # maps of 6x2
PIDS = torch.arange(8) // 2
RESNET50 = 23_508_032  # parameters without the classifier


def slim_pyramidal(**options) -> Pyramidal:
    torch.manual_seed(0)
    given = {"stripes": 3, "dim": 4, "dropout": 0.0, **options}
    return Pyramidal(PyramidalOptions(**given), 4, "resnet18", "none", SLIM)


def test_it_is_registered():
    assert METHODS.get("pyramidal") is Pyramidal


def test_six_stripes_make_21_branches_of_the_published_size():
    with torch.device("meta"):
        model = Pyramidal(PyramidalOptions(), 751, "resnet50", "none")

    branch = (2048 + 1 + 2) * 128
    classifier = (128 + 1) * 751
    counted = sum(p.numel() for p in model.parameters())
    assert counted == RESNET50 + 21 * (branch + classifier)


@given(stripes=st.integers(1, 5), rows=st.integers(1, 3), columns=st.integers(1, 3))
def test_every_run_of_stripes_is_pooled_by_mean_and_maximum(stripes, rows, columns):
    model = slim_pyramidal(stripes=stripes)
    model.backbone = nn.Identity()
    x = torch.randn(2, 3, stripes * rows, columns)

    pooled = model.pooled(x)

    runs = [(first, length) for length in range(1, stripes + 1) for first in range(stripes - length + 1)]
    assert len(pooled) == len(runs)
    for found, (first, length) in zip(pooled, runs, strict=True):
        part = x[:, :, first * rows : (first + length) * rows].flatten(2)
        torch.testing.assert_close(found, (part.mean(2) + part.max(2).values)[:, :, None, None])


def test_a_map_that_has_no_equal_stripes_is_refused():
    with pytest.raises(SpecError, match="a feature map of 6 rows has no 4 equal stripes; set stripes"):
        slim_pyramidal(stripes=4).describe(IMAGES)


def test_the_last_map_has_stride_16_without_dilation():
    model = slim_pyramidal().eval()

    assert model.backbone(IMAGES).shape == (8, 16, 6, 2)
    assert {m.dilation for m in model.modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}


def test_a_description_is_every_branch_reduced_on_its_own():
    model = slim_pyramidal().eval()
    pairs = zip(model.pooled(IMAGES), model.reductions, strict=True)

    expected = [torch.relu(norm(conv(x))).flatten(1) for x, (conv, norm, *_) in pairs]

    torch.testing.assert_close(model.describe(IMAGES), torch.cat(expected, dim=1))


def literal_decisions(losses, alpha, gamma, sigma):
    """Whether each batch is trained by both losses, in plain numbers and in the authors' order."""
    k, decisions = [0.0, 0.0], []
    for batch, pair in enumerate(losses):
        new = [alpha * loss + (1 - alpha) * old for loss, old in zip(pair, k, strict=True)]
        p = [0.5, 0.5] if batch == 0 else [min(a, b) / b for a, b in zip(new, k, strict=True)]
        identity, triplet = (-((1 - one) ** gamma) * math.log(one) for one in p)
        decisions.append(not triplet < sigma * identity)
        k = new
    return decisions


LOSS = st.floats(0.01, 100)


@given(st.lists(st.tuples(LOSS, LOSS), min_size=1, max_size=12))
def test_dynamic_training_is_the_rule_of_the_authors_code(losses):
    dynamic = DynamicTraining(PyramidalOptions()).double()
    pairs = torch.tensor(losses, dtype=torch.float64)

    decisions = [bool(dynamic(*pair)) for pair in pairs]

    assert decisions == literal_decisions(losses, 0.25, 2.0, 0.16)


def test_triplets_are_left_out_while_only_the_identity_loss_falls():
    dynamic = DynamicTraining(PyramidalOptions())

    decisions = [dynamic(torch.tensor(i), torch.tensor(2.0)) for i in (8.0, 1.0)]
    decisions.append(dynamic(torch.tensor(20.0), torch.tensor(0.1)))

    assert [float(one) for one in decisions] == [1, 0, 1]


def test_running_losses_are_kept_with_the_weights():
    model = slim_pyramidal().train()
    losses = model.losses(IMAGES, PIDS)

    expected = 0.25 * torch.stack([losses["identity"], losses["triplet"]])
    torch.testing.assert_close(model.state_dict()["dynamic.running"], expected.detach())


def test_losses_are_summed_over_the_branches():
    model = slim_pyramidal(margin=0.7).train()
    features = model.features(IMAGES)

    losses = model.losses(IMAGES, PIDS)

    logits = [classify(x) for classify, x in zip(model.classifiers, features, strict=True)]
    torch.testing.assert_close(losses["identity"], sum(F.cross_entropy(x, PIDS) for x in logits))
    torch.testing.assert_close(losses["triplet"], sum(batch_hard_triplet(x, PIDS, 0.7) for x in features))


def test_every_parameter_is_trained():
    model = slim_pyramidal().train()

    sum(model.losses(IMAGES, PIDS).values()).backward()

    assert not [name for name, p in model.named_parameters() if p.grad is None]
