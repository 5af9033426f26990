"""PK batches: what every epoch must hold."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reproductions.sampler import pk_batches
from retable.errors import RetableError


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
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels))]

    batches = list(pk_batches(labels, ids_per_batch, images_per_id))

    assert len(batches) == len(sizes) // ids_per_batch
    drawn = [group for batch in batches for group in batch.view(ids_per_batch, images_per_id)]
    identities = [labels[group].unique().tolist() for group in drawn]
    assert all(len(identity) == 1 for identity in identities)
    assert len({identity[0] for identity in identities}) == len(drawn)
    for group, (identity,) in zip(drawn, identities, strict=True):
        if sizes[identity] >= images_per_id:
            assert len(set(group.tolist())) == images_per_id


def test_order_and_images_change_from_epoch_to_epoch():
    labels = torch.arange(8).repeat_interleave(6)
    torch.manual_seed(0)

    first, second = (torch.cat(list(pk_batches(labels, 4, 2))) for _ in range(2))

    assert not torch.equal(labels[first], labels[second])
    assert not torch.equal(first.sort().values, second.sort().values)


def test_too_few_identities_for_a_batch():
    with pytest.raises(RetableError, match="3 identities cannot fill a batch of 4"):
        list(pk_batches(torch.tensor([0, 1, 2, 2]), 4, 2))
