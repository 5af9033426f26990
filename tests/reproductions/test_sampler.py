"""Batches: what every epoch must hold, whatever the data set looks like."""

from collections import Counter
from itertools import groupby

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reproductions.frames import Frames
from reproductions.recipe import PAIRED, Recipe
from reproductions.sampler import (
    Batch,
    all_pairs_batches,
    batches,
    capped_batches,
    images_per_epoch,
    pair_batches,
    pk_batches,
    pk_batches_of_all,
    shuffled_batches,
)
from retable.errors import RetableError

RECIPE = {
    "backbone": "x",
    "weights": "none",
    "height": 8,
    "width": 8,
    "flip": 0,
    "epochs": 1,
    "optimizer": "adam",
    "weight_decay": 0,
    "precision": "fp32",
    "schedule": [(1, 1.0)],
}
SAMPLERS = [
    {"sampler": "pk", "ids_per_batch": 3, "images_per_id": 2},
    {"sampler": "pairs", "anchors_per_batch": 4, "negatives": 3},
    {"sampler": "all pairs", "images_per_batch": 5},
    {"sampler": "shuffled", "images_per_batch": 5},
    {"sampler": "capped", "images_per_id": 2, "images_per_batch": 5, "batches_per_epoch": 7},
]


def shuffled_labels(sizes):
    """Labels 7, 8, ... with so many images each, in random order."""
    labels = torch.repeat_interleave(torch.arange(len(sizes)) + 7, torch.tensor(sizes))
    return labels[torch.randperm(len(labels))]


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    ids_per_batch=st.integers(1, 8),
    images_per_id=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_each_identity_once_with_k_of_its_images(sizes, ids_per_batch, images_per_id, seed):
    if len(sizes) < ids_per_batch:
        return
    torch.manual_seed(seed)
    labels = shuffled_labels(sizes)

    drawn_batches = list(pk_batches(labels, ids_per_batch, images_per_id))

    assert len(drawn_batches) == len(sizes) // ids_per_batch
    drawn = [group for batch in drawn_batches for group in batch.view(ids_per_batch, images_per_id)]
    identities = [labels[group].unique().tolist() for group in drawn]
    assert all(len(identity) == 1 for identity in identities)
    assert len({identity[0] for identity in identities}) == len(drawn)
    for group, (identity,) in zip(drawn, identities, strict=True):
        if sizes[identity - 7] >= images_per_id:
            assert len(set(group.tolist())) == images_per_id


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    ids_per_batch=st.integers(1, 6),
    images_per_id=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_batches_go_on_while_p_identities_have_k_new_images(sizes, ids_per_batch, images_per_id, seed):
    if len(sizes) < ids_per_batch:
        return
    torch.manual_seed(seed)
    labels = shuffled_labels(sizes)
    left = {7 + i: max(1, size // images_per_id) for i, size in enumerate(sizes)}  # groups of K
    drawn = []

    for batch in pk_batches_of_all(labels, ids_per_batch, images_per_id):
        groups = batch.view(ids_per_batch, images_per_id)
        identities = [labels[group].unique().tolist() for group in groups]
        assert all(len(identity) == 1 for identity in identities)
        assert len({identity[0] for identity in identities}) == ids_per_batch
        for group, (identity,) in zip(groups, identities, strict=True):
            left[identity] -= 1
            drawn += group.tolist() if sizes[identity - 7] >= images_per_id else []

    assert len(set(drawn)) == len(drawn)  # no image twice, unless its identity has too few
    assert min(left.values()) >= 0
    assert sum(number > 0 for number in left.values()) < ids_per_batch  # and no batch was left to draw


@pytest.mark.parametrize("draw", [pk_batches, pk_batches_of_all])
def test_too_few_identities_for_a_batch(draw):
    with pytest.raises(RetableError, match="3 identities cannot fill a batch of 4"):
        list(draw(torch.tensor([0, 1, 2, 2]), 4, 2))


def test_an_epoch_of_all_images_is_longer_and_its_length_is_known_at_most():
    labels = torch.repeat_interleave(torch.arange(6), 8)
    recipe = Recipe(**RECIPE | {"sampler": "pk", "ids_per_batch": 3, "images_per_id": 2})
    longer = recipe.model_copy(update={"epoch": "images"})

    assert (
        images_per_epoch(labels, recipe) == sum(len(batch.images) for batch in batches(labels, recipe)) == 12
    )
    drawn = sum(len(batch.images) for batch in batches(labels, longer))
    assert 12 < drawn <= images_per_epoch(labels, longer) == 48


@given(images=st.integers(1, 40), images_per_batch=st.integers(1, 12), seed=st.integers(0, 99))
def test_shuffled_images_come_once_and_batches_are_full(images, images_per_batch, seed):
    if images < images_per_batch:
        with pytest.raises(RetableError, match=f"{images} images cannot fill a batch of {images_per_batch}"):
            list(shuffled_batches(images, images_per_batch))
        return
    torch.manual_seed(seed)

    drawn = list(shuffled_batches(images, images_per_batch))

    assert {len(batch) for batch in drawn} == {images_per_batch}
    together = torch.cat(drawn).tolist()
    assert len(set(together)) == len(together) == images // images_per_batch * images_per_batch
    assert set(together) <= set(range(images))


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=12).filter(lambda sizes: max(sizes) > 1),
    anchors_per_batch=st.integers(1, 7),
    negatives=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_every_image_asks_once_about_one_of_its_own_and_r_distinct_others(
    sizes, anchors_per_batch, negatives, seed
):
    if sum(sizes) - max(sizes) < negatives:
        return
    torch.manual_seed(seed)
    labels = shuffled_labels(sizes)

    drawn = list(pair_batches(labels, anchors_per_batch, negatives))

    asked = Counter()
    for images, pairs in drawn:
        assert (pairs >= 0).all() and (pairs < len(images)).all()
        asker, other = images[pairs].T
        same = labels[asker] == labels[other]
        assert negatives * same.sum() == (~same).sum()  # in every batch, the last one too
        assert (asker != other).all()
        asked.update(asker[same].tolist())
        for place in pairs[:, 0].unique():
            own = pairs[:, 0] == place
            assert same[own].sum() == 1
            assert len(set(other[own & ~same].tolist())) == negatives
    alone = {label for label, count in Counter(labels.tolist()).items() if count == 1}
    assert asked == Counter(i for i, label in enumerate(labels.tolist()) if label not in alone)


def test_an_asker_shares_its_pixels_with_all_its_pairs():
    torch.manual_seed(0)
    labels = torch.arange(6).repeat_interleave(4)

    sizes = {(len(images), len(pairs)) for images, pairs in pair_batches(labels, 8, 3)}

    assert sizes == {(8 * 5, 8 * 4)}


def test_the_last_batch_of_askers_may_be_smaller():
    torch.manual_seed(0)
    labels = torch.arange(5).repeat_interleave(2)

    assert [len(batch.pairs) // 3 for batch in pair_batches(labels, 4, 2)] == [4, 4, 2]


def test_partners_are_drawn_evenly():
    """Identities of 2, 3 and 5 images; each image is drawn as often as chance has it."""
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 2, 2, 1, 0, 2, 1, 2, 2])
    times, negatives = 1500, 3
    same, different = torch.zeros(10, 10), torch.zeros(10, 10)
    for _ in range(times):
        for images, pairs in pair_batches(labels, 10, negatives):
            asker, other = images[pairs].T
            alike = labels[asker] == labels[other]
            same.index_put_((asker[alike], other[alike]), torch.tensor(1.0), accumulate=True)
            different.index_put_((asker[~alike], other[~alike]), torch.tensor(1.0), accumulate=True)

    is_same = (labels[:, None] == labels).double()
    own = is_same - torch.eye(10)
    expected_same = own / own.sum(1, keepdim=True)
    expected_different = (1 - is_same) * negatives / (1 - is_same).sum(1, keepdim=True)
    torch.testing.assert_close(same.double() / times, expected_same, atol=0.06, rtol=0)
    torch.testing.assert_close(different.double() / times, expected_different, atol=0.06, rtol=0)


@pytest.mark.parametrize(
    ("labels", "negatives", "message"),
    [
        ([3, 3, 3], 1, "1 identities leave 0 images of others to ask about, expected 1"),
        ([3, 3, 3, 4, 5], 3, "3 identities leave 2 images of others to ask about, expected 3"),
        ([1, 2, 3], 1, "none of the 3 training images has another of its identity"),
    ],
)
def test_data_without_the_pairs_that_are_asked_for(labels, negatives, message):
    with pytest.raises(RetableError, match=message):
        next(pair_batches(torch.tensor(labels), 2, negatives))


@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    images_per_id=st.integers(1, 5),
    images_per_batch=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_capped_batches_walk_through_the_identities(sizes, images_per_id, images_per_batch, seed):
    caps = [min(size, images_per_id) for size in sizes]
    if sum(caps) < images_per_batch:
        return
    torch.manual_seed(seed)
    labels = shuffled_labels(sizes)

    drawn = [batch.tolist() for batch in capped_batches(labels, images_per_id, images_per_batch, 6)]

    seen = Counter()
    assert len(drawn) == 6
    for batch in drawn:
        assert len(set(batch)) == len(batch) == images_per_batch
        groups = [(pid - 7, len(list(own))) for pid, own in groupby(labels[batch].tolist())]
        identities = [identity for identity, _ in groups]
        assert len(set(identities)) == len(identities)  # an identity's images lie together, and once
        assert all(count == caps[identity] for identity, count in groups[:-1])
        assert groups[-1][1] <= caps[groups[-1][0]]
        seen.update(identities)
    # Every walk ends before another begins, but for those that would come into one batch twice.
    assert max(seen.values()) - min(seen[identity] for identity in range(len(sizes))) <= 2


def test_capped_batches_take_any_of_an_identitys_images():
    torch.manual_seed(0)
    labels = torch.tensor([1] * 6 + [2] * 3)

    drawn = Counter(i for batch in capped_batches(labels, 2, 4, 600) for i in batch.tolist())

    assert all(abs(drawn[i] / 600 - 2 / 6) < 0.06 for i in range(6))
    assert all(abs(drawn[i] / 600 - 2 / 3) < 0.06 for i in range(6, 9))


def test_too_few_images_for_a_capped_batch():
    with pytest.raises(RetableError, match=r"2 identities with at most 3 images each are 5 .* batch of 6"):
        next(capped_batches(torch.tensor([1] * 9 + [2] * 2), 3, 6, 1))


@given(counts=st.lists(st.integers(1, 5), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_each_record_is_shown_by_an_image_of_its_own(counts, seed):
    torch.manual_seed(seed)
    records = torch.randint(len(counts), (20,))
    owner = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))

    shown = Frames(torch.tensor(counts)).one_of_each(records)

    assert torch.equal(owner[shown], records)


def test_all_frames_of_a_tracklet_are_as_likely():
    torch.manual_seed(0)

    shown = Frames(torch.tensor([2, 4])).one_of_each(torch.ones(4000, dtype=torch.int64))

    share = shown.bincount(minlength=6) / 4000
    torch.testing.assert_close(share, torch.tensor([0, 0, 1, 1, 1, 1]) / 4, atol=0.04, rtol=0)


@given(images=st.integers(2, 20), size=st.integers(2, 7), seed=st.integers(0, 99))
def test_all_pairs_are_the_unordered_pairs_of_shuffled_batches(images, size, seed):
    if images < size:
        with pytest.raises(RetableError, match=f"{images} images cannot fill a batch of {size}"):
            next(all_pairs_batches(images, size))
        return
    torch.manual_seed(seed)
    shuffled = list(shuffled_batches(images, size))
    torch.manual_seed(seed)

    for batch, same in zip(all_pairs_batches(images, size), shuffled, strict=True):
        assert torch.equal(batch.images, same)
        assert batch.pairs.tolist() == [[i, j] for i in range(size) for j in range(i + 1, size)]


def test_a_fitted_recipe_has_no_batches():
    recipe = Recipe(**RECIPE, sampler="fitted")

    assert images_per_epoch(torch.arange(9), recipe) == recipe.batch_size == 0
    assert list(batches(torch.arange(9), recipe)) == []


def test_records_of_one_image_take_nothing_from_the_generator():
    records, before = torch.tensor([2, 0, 2]), torch.get_rng_state()

    assert torch.equal(Frames(torch.ones(3, dtype=torch.int64)).one_of_each(records), records)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("fields", SAMPLERS, ids=lambda fields: fields["sampler"])
class TestEverySampler:
    LABELS = torch.arange(8).repeat_interleave(4)[torch.randperm(32, generator=torch.manual_seed(1))]

    def epoch(self, fields, seed) -> list[Batch]:
        torch.manual_seed(seed)
        return list(batches(self.LABELS, Recipe(**RECIPE, **fields)))

    def test_the_recipe_tells_its_size(self, fields):
        recipe, drawn = Recipe(**RECIPE, **fields), self.epoch(fields, 0)

        assert len(drawn[0].images) == recipe.batch_size
        assert sum(len(batch.images) for batch in drawn) == images_per_epoch(self.LABELS, recipe)
        assert {batch.pairs is not None for batch in drawn} == {fields["sampler"] in PAIRED}

    def test_the_seed_decides_and_epochs_differ(self, fields):
        first, again, other = (self.epoch(fields, seed) for seed in (0, 0, 1))

        assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
        assert not all(torch.equal(a.images, b.images) for a, b in zip(first, other, strict=True))

    def test_sizes_of_other_samplers_do_not_decide_its_numbers(self, fields):
        others = {name: value for one in SAMPLERS for name, value in one.items() if name not in fields}

        assert Recipe(**RECIPE, **fields, **others).stated() == Recipe(**RECIPE, **fields).stated()
