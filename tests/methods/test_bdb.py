import pytest
import torch
from torch import nn

from methods import METHODS
from methods.bdb import BDB, BDBOptions
from methods.losses import batch_hard_triplet, smoothed_cross_entropy

SLIM = {"layers": (1, 1, 1, 1), "channels": (8, 16, 24, 32)}
IMAGES = torch.randn(8, 3, 96, 32, generator=torch.Generator().manual_seed(0))  # maps of 6x2
PIDS = torch.arange(8) // 2
RESNET50 = 23_508_032  # parameters without the classifier


def slim_bdb(**options) -> BDB:
    torch.manual_seed(0)
    return BDB(BDBOptions(**{"global_dim": 12, "local_dim": 20, **options}), 4, "resnet18", "none", SLIM)


def test_it_is_registered():
    assert METHODS.get("bdb") is BDB


def test_parameters_of_the_published_size():
    with torch.device("meta"):
        model = BDB(BDBOptions(), 751, "resnet50", "none")

    bottleneck = 2 * 2048 * 512 + 9 * 512**2 + 2 * (512 + 512 + 2048)
    reductions = (2048 + 1 + 2) * (512 + 1024)
    classifiers = (512 + 1024 + 2) * 751
    counted = sum(p.numel() for p in model.parameters())
    assert counted == RESNET50 + bottleneck + reductions + classifiers


def test_the_last_map_has_stride_16_without_dilation():
    model = slim_bdb().eval()

    assert model.backbone(IMAGES).shape == (8, 32, 6, 2)
    assert {m.dilation for m in model.modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}


def test_branches_pool_the_mean_and_the_maximum_of_another_block():
    model = slim_bdb().eval()
    x = model.backbone(IMAGES)

    def reduced(branch, pooled):
        conv, norm, *_ = model.reductions[branch]
        return torch.relu(norm(conv(pooled[:, :, None, None]))).flatten(1)

    expected = [
        reduced("global", x.flatten(2).mean(2)),
        reduced("local", model.bottleneck(x).flatten(2).max(2).values),
    ]
    torch.testing.assert_close(model.describe(IMAGES), torch.cat(expected, dim=1))


def test_rows_are_dropped_from_the_local_branch_in_training_alone():
    model = slim_bdb(bfe_height=0.5)
    kept = []
    model.drop.register_forward_hook(lambda *call: kept.append(call[2].abs().sum((0, 1, 3)) > 0))

    model.train().features(IMAGES)
    model.eval().features(IMAGES)

    assert [int(rows.sum()) for rows in kept] == [3, 6]


def test_losses_are_triplet_and_smoothed_cross_entropy_of_both_branches():
    model = slim_bdb(label_smoothing=0.2, margin=0.5).eval()
    features = model.features(IMAGES)

    losses = model.losses(IMAGES, PIDS)

    assert list(losses) == ["global_triplet", "global_ce", "local_triplet", "local_ce"]
    for branch, feature in features.items():
        logits = model.classifiers[branch](feature)
        torch.testing.assert_close(losses[f"{branch}_triplet"], batch_hard_triplet(feature, PIDS, 0.5))
        torch.testing.assert_close(losses[f"{branch}_ce"], smoothed_cross_entropy(logits, PIDS, 0.2))


def test_every_parameter_is_trained():
    model = slim_bdb().train()

    sum(model.losses(IMAGES, PIDS).values()).backward()

    assert not [name for name, p in model.named_parameters() if p.grad is None]


@pytest.mark.parametrize("margin", [-1, "hard"])
def test_a_margin_is_soft_or_not_negative(margin):
    with pytest.raises(ValueError, match="margin"):
        BDBOptions(margin=margin)
