"""What holds for every registered protocol, whichever it is."""

import numpy as np
import pytest
import torch

from protocols import PROTOCOLS, evaluate
from tests.protocols.problems import featured, labelled

ALL = PROTOCOLS.names()
FAR_CAMERA = 99


def metrics(name, arrays, **options):
    return evaluate(name, **arrays, **options).metrics


def without_samples(values):
    """Which of an identity's images is drawn depends on their order; everything else must not."""
    return {key: value for key, value in values.items() if "_sampled" not in key}


def close(got, expected):
    assert got.keys() == expected.keys()
    for key, value in expected.items():
        assert got[key] == pytest.approx(value, abs=1e-9), key


def grown(arrays, pid, camid, features):
    """With one more gallery image for each row of ``features``."""
    count = len(features)
    return arrays | {
        "gallery_pids": np.append(arrays["gallery_pids"], [pid] * count),
        "gallery_camids": np.append(arrays["gallery_camids"], [camid] * count),
        "gallery_features": np.concatenate((arrays["gallery_features"], features.astype("f4"))),
    }


@pytest.mark.parametrize("name", ALL)
def test_a_perfect_ranker_scores_100(name):
    arrays = labelled()
    one_hot = np.eye(20, dtype="f4")

    got = metrics(
        name, arrays | {f"{side}_features": one_hot[arrays[f"{side}_pids"]] for side in ("query", "gallery")}
    )

    for key, value in got.items():
        assert value == pytest.approx(0 if key.endswith("_std") else 100), key


@pytest.mark.parametrize("name", ALL)
def test_the_order_of_the_gallery_changes_nothing(name):
    arrays = featured()
    order = np.random.default_rng(5).permutation(len(arrays["gallery_pids"]))
    moved = arrays | {key: array[order] for key, array in arrays.items() if key.startswith("gallery")}

    close(without_samples(metrics(name, moved)), without_samples(metrics(name, arrays)))


@pytest.mark.parametrize("name", ALL)
def test_junk_changes_nothing(name):
    arrays = featured()
    for pid in PROTOCOLS.get(name)().rules.junk_pids:
        near = arrays["query_features"] + 0.01
        close(metrics(name, grown(arrays, pid, FAR_CAMERA, near)), metrics(name, arrays))


@pytest.mark.parametrize("name", ALL)
def test_junk_is_no_neighbour_of_re_ranked_images(name):
    arrays = featured(noise=1.5)
    expected = evaluate(name, **arrays, rerank=True)
    for pid in PROTOCOLS.get(name)().rules.junk_pids:
        junk = grown({k: a[:0] for k, a in arrays.items()}, pid, FAR_CAMERA, arrays["query_features"] + 0.01)
        first = {k: np.concatenate((junk[k], arrays[k])) for k in junk if k.startswith("gallery")}

        got = evaluate(name, **(arrays | first), rerank=True)

        close(got.metrics, expected.metrics)
        shifted = [
            [image + len(first["gallery_pids"]) - 333 for image in row]
            for row in expected.per_query()["gallery"]
        ]
        assert got.per_query()["gallery"].tolist() == shifted


@pytest.mark.parametrize("name", ALL)
def test_a_distractor_behind_all_matches_changes_nothing(name):
    protocol = PROTOCOLS.get(name)()
    arrays = featured()
    far = 1e3 * np.ones((3, 16))

    for pid in (*protocol.rules.distractor_pids, 77):
        more = grown(arrays, pid, FAR_CAMERA, far)
        close(metrics(name, more, metric="euclidean"), metrics(name, arrays, metric="euclidean"))


@pytest.mark.parametrize("name", ALL)
def test_a_distractor_before_all_matches_costs(name):
    protocol = PROTOCOLS.get(name)()
    arrays = featured()
    for pid in (*protocol.rules.distractor_pids, 77):
        more = grown(arrays, pid, FAR_CAMERA, arrays["query_features"])
        assert metrics(name, more)["rank1"] < metrics(name, arrays)["rank1"]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_blocks_and_chunks_change_nothing(name, metric, monkeypatch):
    arrays = featured()
    whole = metrics(name, arrays, metric=metric)

    monkeypatch.setattr("protocols.feature_distances.BLOCK_BYTES", 4 * 340 * 7)
    monkeypatch.setattr("protocols.features.CHUNK_BYTES", 4 * 16 * 9)

    close(metrics(name, arrays, metric=metric), whole)


@pytest.mark.parametrize("name", ALL)
def test_half_precision_is_judged_as_its_own_values(name):
    """The engine adds no rounding to that of the features, which costs little by itself."""
    arrays = featured()
    half, widened = dict(arrays), dict(arrays)
    for key in ("query_features", "gallery_features"):
        half[key] = torch.from_numpy(arrays[key]).bfloat16()
        widened[key] = half[key].float()

    close(metrics(name, half), metrics(name, widened))
    assert metrics(name, half)["mAP"] == pytest.approx(metrics(name, arrays)["mAP"], abs=1)


@pytest.mark.parametrize("name", ALL)
def test_a_distance_matrix_is_judged_as_its_features(name):
    arrays = featured()
    features = [arrays.pop(f"{side}_features") for side in ("query", "gallery")]
    query, gallery = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in features)
    distances = 1 - (query.astype("f8") @ gallery.astype("f8").T)
    expected = metrics(name, featured())

    close(metrics(name, arrays | {"distances": distances}), expected)
    close(metrics(name, arrays | {"distances": lambda start, stop: distances[start:stop]}), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gpu_says_what_the_cpu_says(name, dtype):
    arrays = featured()
    tensors = {key: torch.from_numpy(arrays[key]).to(dtype) for key in ("query_features", "gallery_features")}

    on_gpu = metrics(name, arrays | {key: tensor.cuda() for key, tensor in tensors.items()})

    close(on_gpu, metrics(name, arrays | tensors))
