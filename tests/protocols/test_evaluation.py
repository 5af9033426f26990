"""The function ``evaluate``: a literal evaluator, every option, and what it says about bad input."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols import PROTOCOLS, SingleShot, evaluate, summarise
from protocols.arrays import InputError
from protocols.label_notes import differences, label_counts
from protocols.metrics import evaluate_ranks
from protocols.ranking import Labels, rank_matches
from protocols.reranking import rerank
from retable.errors import UnknownName
from tests.protocols.problems import featured, labelled

MARKET = PROTOCOLS.get("market1501")()
VIPER_LIKE = replace(MARKET, name="own", reverse=True)
DRAWING = replace(MARKET, name="own", single_shot=SingleShot("every", repeats=4))


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def literal_market(distances, arrays):
    """mAP by both rules and rank-1, query by query, as the field's evaluators go about it."""
    step, trapezoid, first = [], [], []
    for q, (pid, camid) in enumerate(zip(arrays["query_pids"], arrays["query_camids"], strict=True)):
        order = np.argsort(distances[q], kind="stable")
        pids, camids = arrays["gallery_pids"][order], arrays["gallery_camids"][order]
        kept = (pids != -1) & ~((pids == pid) & (camids == camid))
        hit = (pids == pid)[kept]
        if not hit.any():
            continue
        precision = np.cumsum(hit) / np.arange(1, len(hit) + 1)
        before = np.concatenate(([1.0], precision[:-1]))
        step.append(precision[hit].mean())
        trapezoid.append(((precision + before) / 2)[hit].mean())
        first.append(hit[0])
    return 100 * np.mean(step), 100 * np.mean(trapezoid), 100 * np.mean(first)


@given(st.integers(0, 10**6), st.sampled_from(["cosine", "euclidean"]))
@settings(max_examples=25, deadline=None)
def test_market_features_are_judged_as_by_a_literal_evaluator(seed, metric):
    arrays = featured(seed=seed, lowest=-1)
    query, gallery = arrays["query_features"].astype("f8"), arrays["gallery_features"].astype("f8")
    if metric == "cosine":
        query, gallery = unit(query), unit(gallery)
    distances = ((query[:, None] - gallery) ** 2).sum(2)

    got = evaluate("market1501", **arrays, metric=metric).metrics

    assert (got["mAP"], got["mAP_trapezoid"], got["rank1"]) == pytest.approx(
        literal_market(distances, arrays)
    )


def test_importing_protocols_needs_no_numpy_and_the_name_is_the_function():
    script = (
        "import sys, protocols; assert 'numpy' not in sys.modules; protocols.PROTOCOLS.names();"
        "assert 'numpy' not in sys.modules; from protocols import evaluate; assert callable(evaluate);"
        "assert 'torch' not in sys.modules and 'pandas' not in sys.modules"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr


def test_the_name_evaluates_though_the_command_s_module_was_imported():
    script = (
        "import numpy as np, protocols.evaluate; from protocols import evaluate;"
        "print(evaluate('market1501', query_pids=[1], query_camids=[1], gallery_pids=[1, 2],"
        "gallery_camids=[2, 2], distances=np.array([[1.0, 2.0]])).metrics['rank1'])"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert ran.stdout.strip() == "100.0", ran.stderr


def test_a_name_that_protocols_does_not_have():
    import protocols

    with pytest.raises(AttributeError, match="has no attribute 'evaluator'"):
        _ = protocols.evaluator


def test_a_file_of_arrays_is_judged_in_two_lines(tmp_path):
    np.savez(tmp_path / "features.npz", **featured())

    result = evaluate("market1501", **np.load(tmp_path / "features.npz"))

    assert result.metrics == evaluate("market1501", **featured()).metrics


def test_labels_may_be_lists_or_tensors():
    arrays = featured()
    lists = {
        key: array.tolist() if "s_" not in key and array.ndim == 1 else array for key, array in arrays.items()
    }
    tensors = {key: torch.from_numpy(array) for key, array in arrays.items()}

    assert evaluate("market1501", **lists).metrics == evaluate("market1501", **arrays).metrics
    assert evaluate("market1501", **tensors).metrics["mAP"] == pytest.approx(
        evaluate("market1501", **arrays).metrics["mAP"]
    )


def test_mapped_distances_are_judged_as_those_in_memory(tmp_path):
    arrays = labelled()
    distances = np.random.default_rng(0).random((len(arrays["query_pids"]), len(arrays["gallery_pids"])))
    np.save(tmp_path / "d.npy", distances.astype("f2"))

    mapped = evaluate("market1501", **arrays, distances=np.load(tmp_path / "d.npy", mmap_mode="r"))

    assert mapped.metrics == evaluate("market1501", **arrays, distances=distances.astype("f2")).metrics


# Tracklets and multi-queries


def test_frames_are_judged_as_their_pooled_tracklets():
    arrays = featured()
    rng = np.random.default_rng(3)
    frames = {"query": rng.permutation(np.repeat(np.arange(40), 3)), "gallery": np.repeat(np.arange(333), 2)}
    given_frames, pooled = {}, dict(arrays)
    for side, tracklet in frames.items():
        rows = arrays[f"{side}_features"][tracklet] + 0.1 * rng.normal(size=(len(tracklet), 16)).astype("f4")
        for label in ("pids", "camids"):
            given_frames[f"{side}_{label}"] = arrays[f"{side}_{label}"][tracklet]
        given_frames |= {f"{side}_features": rows, f"{side}_tracklets": 1000 - tracklet}
        pooled[f"{side}_features"] = np.stack(
            [unit(rows[tracklet == number]).max(0) for number in range(tracklet.max() + 1)]
        )

    got = evaluate("market1501", **given_frames, pooling="max")

    assert got.metrics == pytest.approx(evaluate("market1501", **pooled).metrics)
    assert got.counts["queries"] == 40
    assert got.settings == {"metric": "cosine", "pooling": "max"}


def test_pooling_comes_from_the_protocol_unless_given():
    arrays = featured() | {"query_tracklets": np.arange(40)}

    assert evaluate(replace(MARKET, pooling="max"), **arrays).settings["pooling"] == "max"
    assert evaluate(replace(MARKET, pooling="max"), **arrays, pooling="mean").settings["pooling"] == "mean"
    with pytest.raises(InputError, match="query_tracklets: the protocol does not say how frames become one"):
        evaluate("market1501", **arrays)


def test_a_multi_query_by_hand():
    """Boxes at 0 and 90 degrees: their mean and the match lie at 45, a distractor at 10.

    By its own feature, at 0 degrees, the query finds the distractor first. Boxes of another camera
    or person (180 degrees) are not asked.
    """

    def at(*degrees):
        return np.stack([[np.cos(x), np.sin(x)] for x in np.radians(degrees)])

    arrays = {
        "query_pids": [1],
        "query_camids": [1],
        "gallery_pids": [1, 0],
        "gallery_camids": [2, 2],
        "gallery_features": at(45, 10),
    }
    boxes = {
        "multiquery_features": at(0, 90, 180, 180),
        "multiquery_pids": [1, 1, 1, 2],
        "multiquery_camids": [1, 1, 2, 1],
    }

    assert evaluate("market1501", **arrays, query_features=at(0)).metrics["rank1"] == 0
    joined = evaluate("market1501", **arrays, **boxes)
    assert joined.metrics["rank1"] == 100
    assert joined.settings == {"metric": "cosine", "pooling": "mean", "multi-query": True}


def boxes_of(arrays):
    return {f"multiquery_{key}": arrays[f"query_{key}"] for key in ("features", "pids", "camids")}


def test_boxes_are_judged_by_the_protocol_with_multiple_queries():
    arrays = featured()

    result = evaluate("market1501", **arrays, **boxes_of(arrays))

    assert result.protocol == result.to_dict()["protocol"] == "market1501/multi-query"
    assert str(result) == str(evaluate("market1501/multi-query", **arrays, **boxes_of(arrays)))
    assert result.metrics != evaluate("market1501", **arrays).metrics
    assert evaluate(MARKET, **arrays, **boxes_of(arrays)).protocol == "market1501"


@pytest.mark.parametrize("name", ["msmt17", "mars", "market1501/openreid"])
def test_a_protocol_without_multiple_queries_refuses_boxes(name):
    with pytest.raises(InputError, match=f"{name} has no multiple queries; .* take market1501/multi-query"):
        evaluate(name, **featured(), **boxes_of(featured()))


def pooled_before(result):
    return [note.split(":")[0] for note in result.notes if "taken as pooled already" in note]


def test_rows_of_a_pooling_protocol_without_tracklets_or_boxes_are_noted_as_pooled():
    arrays = featured()
    tracklets = {"query_tracklets": np.arange(40), "gallery_tracklets": np.arange(333)}

    assert pooled_before(evaluate("mars", **arrays)) == ["query_features", "gallery_features"]
    assert pooled_before(evaluate("mars", **arrays, query_tracklets=np.arange(40))) == ["gallery_features"]
    assert pooled_before(evaluate("mars", **arrays, **tracklets)) == []
    assert pooled_before(evaluate("market1501/multi-query", **arrays)) == ["query_features"]
    assert pooled_before(evaluate("market1501/multi-query", **arrays, **boxes_of(arrays))) == []
    assert pooled_before(evaluate("market1501", **arrays)) == []


def test_boxes_given_as_tracklets_are_the_same_multi_query():
    arrays = featured(queries=60, identities=30, cameras=2)
    pairs = np.stack((arrays["query_pids"], arrays["query_camids"]), 1)
    unique, group = np.unique(pairs, axis=0, return_inverse=True)
    boxes = {f"multiquery_{key}": arrays[f"query_{key}"] for key in ("features", "pids", "camids")}
    single = arrays | {"query_pids": unique[:, 0], "query_camids": unique[:, 1]}
    del single["query_features"]

    by_boxes = evaluate("market1501", **single, **boxes, pooling="max")

    by_tracklets = evaluate("market1501", **arrays, query_tracklets=group, pooling="max")
    assert by_boxes.metrics == pytest.approx(by_tracklets.metrics)


# Single shot, reverse, re-ranking


def test_single_shot_ranks_stand_apart_from_those_of_all_shots():
    result = evaluate(DRAWING, **featured())
    everything = evaluate(MARKET, **featured())

    assert result.metrics["rank1_all_shots"] == everything.metrics["rank1"]
    assert result.metrics["mAP"] == everything.metrics["mAP"]
    assert result.metrics["rank1"] == pytest.approx(result.cmc[0])
    assert result.settings == {"metric": "cosine", "seed": 0, "repeats": 4}


def test_average_precision_of_a_single_shot_protocol_keeps_the_own_camera_as_its_evaluators_do():
    whole_camera = replace(DRAWING, rules=replace(MARKET.rules, same_camera="all"))

    got = evaluate(whole_camera, **featured()).metrics

    assert got["mAP"] == evaluate(MARKET, **featured()).metrics["mAP"]
    assert got["rank1"] > evaluate(DRAWING, **featured()).metrics["rank1"]


def test_seed_split_and_repeats_decide_the_draws():
    def sampled(**options):
        metrics = evaluate(DRAWING, **featured(noise=1.5), **options).metrics
        return tuple(value for key, value in metrics.items() if "_sampled" in key)

    assert sampled() == sampled(seed=0, split="", repeats=4)
    assert len({sampled(), sampled(seed=1), sampled(split="1"), sampled(repeats=5)}) == 4


def test_the_gallery_asks_too():
    arrays = featured()
    turned = {
        key.replace("query", "x").replace("gallery", "query").replace("x", "gallery"): a
        for key, a in arrays.items()
    }

    result = evaluate(VIPER_LIKE, **arrays)

    backward = evaluate(MARKET, **turned)
    assert {key: result.metrics[f"reverse_{key}"] for key in backward.metrics} == pytest.approx(
        backward.metrics
    )
    assert result.reverse is not None
    assert len(result.reverse.per_query()) == len(arrays["gallery_pids"])


def test_re_ranking_is_that_of_unit_features_under_the_cosine():
    arrays = featured(noise=1.5)
    query, gallery = (unit(arrays[f"{side}_features"].astype("f8")) for side in ("query", "gallery"))
    labels = (Labels(arrays[f"{side}_pids"], arrays[f"{side}_camids"]) for side in ("query", "gallery"))
    expected = evaluate_ranks(
        rank_matches(rerank(query, gallery), *labels, MARKET.rules), MARKET.rules
    ).metrics

    got = evaluate("market1501", **arrays, rerank=True)

    assert got.metrics == pytest.approx(expected, abs=1e-9)
    assert got.metrics["mAP"] > evaluate("market1501", **arrays).metrics["mAP"]
    assert got.settings["re-ranked"] is True


@pytest.mark.parametrize("rerank", [False, True])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_autocast_around_an_evaluation_changes_nothing(rerank, kind):
    """What all rows have in common would leave bfloat16 few bits for what tells them apart."""
    arrays = featured(noise=2.0)
    for side in ("query", "gallery"):
        arrays[f"{side}_features"] = kind(arrays[f"{side}_features"] + np.float32(3))
    expected = evaluate("market1501", **arrays, rerank=rerank).metrics

    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert evaluate("market1501", **arrays, rerank=rerank).metrics == expected


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_mapped_features_are_re_ranked_without_a_warning(tmp_path, metric):
    arrays = featured()
    mapped = dict(arrays)
    for name in ("query_features", "gallery_features"):
        np.save(tmp_path / f"{name}.npy", arrays[name])
        mapped[name] = np.load(tmp_path / f"{name}.npy", mmap_mode="r")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = evaluate("market1501", **mapped, rerank=True, metric=metric)

    assert got.metrics == evaluate("market1501", **arrays, rerank=True, metric=metric).metrics


@pytest.mark.parametrize("reranked", [False, True])
def test_a_common_offset_changes_no_euclidean_result(reranked):
    """At an offset of 1,000 |a|^2 - 2ab + |b|^2 has a handful of bits left in float32."""
    arrays = featured()
    moved = dict(arrays)
    for name in ("query_features", "gallery_features"):
        moved[name] = arrays[name].astype("f8") + 1000

    got, expected = (
        evaluate("market1501", **each, metric="euclidean", rerank=reranked).metrics
        for each in (moved, arrays)
    )

    assert got == pytest.approx(expected, abs=1e-9)


# Results


@pytest.mark.parametrize(
    ("protocol", "line"),
    [
        (
            "mars",
            "* headline: step rule, as most code since 2018; the code of MARS's authors prints mAP_trap",
        ),
        ("msmt17", "* headline: step rule, as most code since 2018\n"),
        (
            replace(MARKET, rules=replace(MARKET.rules, headline_ap="trapezoid")),
            "* headline: trapezoid rule\n",
        ),
    ],
    ids=["theirs differs", "nothing known", "the same"],
)
def test_the_headline_says_whose_choice_it_is(protocol, line):
    assert line in evaluate(protocol, **featured()).table()


def test_whose_choice_the_headline_is_changes_no_fingerprint():
    assert MARKET.authors_ap == "trapezoid"
    assert replace(MARKET, authors_ap=None).fingerprint() == MARKET.fingerprint() == "95cbb6615451fece"


def deviations_said(name, deviation, arrays):
    lines = evaluate(name, **arrays, deviations=deviation).table().splitlines()
    return [line for line in lines if deviation in line]


def test_a_deviation_says_what_it_acts_on_or_why_it_changes_nothing():
    arrays = featured()
    matchless = arrays | {"query_pids": np.append(arrays["query_pids"][1:], 99)}
    many = featured(images=4000)

    assert deviations_said("market1501", "ap-top-50", arrays) == [
        "NOT BY THE PROTOCOL: ap-top-50 (acts on average precision)"
    ]
    assert deviations_said("cuhk01-100", "truncate-4000", many) == [
        "NOT BY THE PROTOCOL: truncate-4000 (acts on average precision and the ranks of all shots)"
    ]
    assert deviations_said("market1501", "truncate-4000", arrays) == [
        "truncate-4000 changes nothing: the gallery has 333 images, so nothing is cut"
    ]
    assert deviations_said("market1501", "drop-matchless", matchless) == [
        "drop-matchless changes nothing: the protocol's own rule"
    ]
    assert deviations_said("market1501", "zero-matchless", arrays) == [
        "zero-matchless changes nothing: every query has a true match"
    ]
    assert deviations_said("market1501", "zero-matchless", matchless) == [
        "NOT BY THE PROTOCOL: zero-matchless (acts on all means)"
    ]


def test_a_result_says_by_which_rules_and_version_it_was_made():
    back = json.loads(json.dumps(evaluate("market1501", **featured()).to_dict()))

    assert back["fingerprint"] == MARKET.fingerprint()
    assert back["rules"]["junk_pids"] == [-1]
    assert back["retable"] == version("retable")


def test_numbers_of_any_integer_type_become_json():
    result = evaluate(DRAWING, **featured(), seed=np.int32(3), repeats=np.uint8(2))

    assert json.loads(json.dumps(result.to_dict()))["settings"] | {"metric": ""} == {
        "metric": "",
        "seed": 3,
        "repeats": 2,
    }


def test_both_directions_have_their_curves():
    result = evaluate(VIPER_LIKE, **featured())

    assert result.reverse is not None
    assert result.to_dict()["reverse_cmc"] == result.reverse.cmc.tolist()


@pytest.mark.parametrize(("dtype", "lost"), [(np.uint16, 65_535), (np.uint32, 2**32 - 1), (np.uint8, 255)])
def test_junk_that_lost_its_sign_is_noted(dtype, lost):
    arrays = featured(lowest=-1)
    wrapped = arrays | {"gallery_pids": arrays["gallery_pids"].astype(dtype)}

    def noted(given):
        return [note for note in evaluate("market1501", **given).notes if "unsigned" in note]

    assert f"gallery images have the pid {lost:,}: is it junk" in noted(wrapped)[0]
    assert noted(arrays) == []
    assert noted(wrapped | {"query_pids": np.append(arrays["query_pids"][1:], lost)}) == []


def test_a_result_is_json_and_a_table():
    result = evaluate("market1501", **featured(), deviations=["ap-top-50"])

    back = json.loads(json.dumps(result.to_dict()))
    text = str(result)

    assert back["metrics"] == result.metrics
    assert back["deviations"] == ["ap-top-50"]
    assert f"{result.metrics['mAP']:.2f}" in text
    assert f"{result.metrics['mAP_trapezoid']:.2f}" in text
    assert "NOT BY THE PROTOCOL: ap-top-50" in text
    assert "mAP_trapezoid  " not in result.table("step")
    assert "* headline: step rule, as most code since 2018; the code of Market-1501's authors prints" in text
    assert "*" not in result.table("trapezoid")


def test_labels_that_differ_from_the_release_are_noted():
    notes = " ".join(evaluate("market1501", **featured(lowest=-1)).notes)

    assert "40 queries, Market-1501 has 3,368" in notes
    assert "gallery images, Market-1501 has 19,732 or 15,913" in notes


def test_a_whole_release_gets_no_note_with_or_without_its_junk():
    pids = np.concatenate((np.tile(np.arange(1, 751), 18)[:13_115], np.zeros(2_798, int), np.full(3_819, -1)))
    query = Labels(np.tile(np.arange(1, 751), 5)[:3_368], np.ones(3_368, int))

    def notes(gallery):
        labels = Labels(gallery, np.full_like(gallery, 2))
        return differences(label_counts(query, labels, MARKET.rules), MARKET)

    assert notes(pids) == notes(pids[pids >= 0]) == []
    assert [note.split(":")[0] for note in notes(pids[:-1])] == [
        "19,731 gallery images, Market-1501 has 19,732 or 15,913",
        "3,818 junk images, Market-1501 has 3,819",
    ]


def test_splits_are_summarised_by_mean_and_sample_deviation():
    results = [evaluate("market1501", **featured(seed=seed), split=str(seed)) for seed in range(3)]

    summary = summarise(results)

    scores = [result.metrics["mAP"] for result in results]
    assert summary.mean["mAP"] == pytest.approx(np.mean(scores))
    assert summary.std["mAP"] == pytest.approx(np.std(scores, ddof=1))
    assert "3 splits" in str(summary)
    assert json.loads(json.dumps(summary.to_dict()))["splits"] == 3


def test_a_deviation_over_draws_is_not_averaged_over_splits():
    results = [evaluate(DRAWING, **featured(), split=split) for split in "01"]

    assert "rank1_sampled" in summarise(results).std
    assert "rank1_sampled_std" not in summarise(results).mean


def test_runs_on_one_split_are_not_called_splits():
    arrays = [featured(), featured(noise=1.0)]

    summary = summarise([evaluate("market1501", **each) for each in arrays])

    assert "2 runs on one split" in str(summary)
    assert summary.to_dict()["splits"] == 1


def test_one_result_is_no_list_of_them_and_a_number_is_no_result():
    with pytest.raises(InputError, match="found one result, expected several"):
        summarise(evaluate("market1501", **featured()))
    with pytest.raises(InputError, match="found 3 among the results"):
        summarise([3])


@pytest.mark.parametrize("results", [[], ["cosine", "euclidean"]])
def test_what_was_not_made_alike_is_not_summarised(results):
    made = [evaluate("market1501", **featured(), metric=metric) for metric in results]

    with pytest.raises(InputError, match=r"no results|result 1 \(split ''\): .* evaluate all splits alike"):
        summarise(made)


# Bad input

BOXES = {
    "multiquery_features": np.ones((3, 16)),
    "multiquery_pids": [1, 2, 3],
    "multiquery_camids": [1, 1, 1],
}
BAD = {
    "query_pids: found float64, expected whole numbers; convert": {"query_pids": np.ones(40)},
    "query_pids: found float64 with 1.5 in row 0, .* that is no label": {"query_pids": np.full(40, 1.5)},
    "query_pids: found float64 with nan in row 0, .* that is no label": {"query_pids": np.full(40, np.nan)},
    "query_pids: found a masked array": {"query_pids": np.ma.masked_less(np.ones(40, int), 1)},
    "gallery_features: found a masked array": {"gallery_features": np.ma.masked_less(np.ones((333, 16)), 1)},
    "query_pids: no array of numbers; are all of its rows of one length": {"query_pids": [[1], [1, 2]]},
    "query_names: found int64, expected strings": {"query_names": np.arange(40)},
    "gallery_names: found 2 rows, but gallery_pids has 333": {"gallery_names": ["a", "b"]},
    "complex128, expected floating-point features; complex ones": {
        "query_features": np.ones((40, 16), "c16")
    },
    "query_features: row 0 is 0 everywhere .* or use the Eucl": {"query_features": np.zeros((40, 16))},
    "query_features: row 0 is 0 .* pooling scales every row to length 1, whatever the distance": {
        "query_features": np.zeros((40, 16)),
        "query_tracklets": np.arange(40),
        "pooling": "mean",
        "metric": "euclidean",
    },
    "rerank: found 'yes', expected True or False": {"rerank": "yes"},
    "seed: market1501 ranks the whole gallery and draws nothing": {"seed": 0},
    "split: found 0, expected its name": {"split": 0},
    "protocol: found None, expected a name": {"protocol": None},
    "query_pids: found object": {"query_pids": np.array(["1"] * 40, object)},
    "gallery_camids: found bool": {"gallery_camids": np.ones(333, bool)},
    r"gallery_pids: found the shape \(333, 1\)": {"gallery_pids": np.ones((333, 1), int)},
    "query_camids: empty": {"query_camids": []},
    r"expected less than 2\*\*63": {"query_pids": np.full(40, 2**63, np.uint64)},
    "query_camids: found 39 rows, but query_pids has 40": {"query_camids": np.ones(39, int)},
    "query_features: found 39 rows, but query_pids has 40": {"query_features": np.ones((39, 16))},
    "gallery_features: found 15 columns": {"gallery_features": np.ones((333, 15))},
    r"query_features: found the shape \(\), expected \(N, d\)": {"query_features": 0.5},
    r"multiquery_features: found the shape \(\)": {
        "multiquery_features": 0.5,
        "multiquery_pids": [1],
        "multiquery_camids": [1],
    },
    "query_features: missing": {"query_features": None},
    "query_features: missing, .* found neither": {"gallery_features": None, "query_features": None},
    "distances: given beside gallery_features, query_features": {"distances": np.ones((40, 333))},
    "metric: found 'cosin', .* did you mean 'cosine'": {"metric": "cosin"},
    "pooling: found 'avg', expected 'mean' or 'max'": {"pooling": "avg"},
    "pooling 'mean', but every row is an image": {"pooling": "mean"},
    "repeats: market1501 ranks the whole gallery": {"repeats": 3},
    "multi-query: found multiquery_pids, expected": {"multiquery_pids": [1]},
    "multi-query: found .*query_tracklets|no query_tracklets": BOXES | {"query_tracklets": np.arange(40)},
    "queries have no box, the first is query": BOXES,
    "query_tracklets: found 3 rows, but query_pids has 40": {"query_tracklets": [1, 2, 3], "pooling": "max"},
    "re-ranking: ": {
        "rerank": True,
        "query_features": np.ones((40, 16)),
        "gallery_features": np.ones((333, 16)),
    },
    "unknown deviation 'x'": {"deviations": ["x"]},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_refused_with_what_to_do(message):
    with pytest.raises(InputError, match=message):
        evaluate(**({"protocol": "market1501"} | featured() | BAD[message]))


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (np.ones((40, 332)), r"distances: found the shape \(40, 332\), expected \(40, 333\)"),
        (np.ones((40, 333), complex), "distances: found complex128, expected real numbers"),
        (torch.ones(40, 333) > 0, "distances: found torch.bool, expected real numbers"),
        (np.full((40, 333), np.nan), "the distances of query 0 hold values that are not a number"),
        (lambda *_: np.ones((1, 1)), r"distances\(0, 40\) has the shape \(1, 1\)"),
        (lambda *_: [[1.0]], r"distances\(0, 40\) gave a list, expected a NumPy array"),
        (lambda *_: np.ones((40, 333), complex), "gave a ndarray of complex128, expected .* real numbers"),
        (lambda *_: np.ones((40, 333), bool), "gave a ndarray of bool, expected"),
        (lambda *_: np.ones((40, 333), object), "gave a ndarray of object, expected"),
        (np.ones((40, 333), object), "distances: found object, expected real numbers"),
        ([1.0, 2.0], r"distances: found the shape \(2,\), expected \(40, 333\)"),
        ([[1.0], [1.0, 2.0]], "distances: no array of numbers; are all of its rows of one length"),
        (np.ma.masked_less(np.ones((40, 333)), 1), "distances: found a masked array"),
    ],
    ids=[
        *("shape", "complex", "bool", "not a number", "block", "list block", "complex block", "bool block"),
        *("object block", "object", "flat list", "ragged list", "masked"),
    ],
)
def test_bad_distances_are_refused(distances, message):
    with pytest.raises(InputError, match=message):
        evaluate("market1501", **labelled(), distances=distances)


def test_a_metric_beside_distances_is_refused():
    with pytest.raises(InputError, match="distances: given beside metric 'cosine'"):
        evaluate("market1501", **labelled(), distances=np.ones((40, 333)), metric="cosine")


def test_a_single_name_of_a_deviation_is_one():
    assert evaluate("market1501", **featured(), deviations="ap-top-50").deviations == ("ap-top-50",)


@pytest.mark.parametrize("option", [{"repeats": 2.5}, {"repeats": "3"}, {"seed": 1.0}, {"seed": True}])
def test_draws_are_counted_in_whole_numbers(option):
    with pytest.raises(InputError, match=r"(repeats|seed): found .*, expected a whole number"):
        evaluate(DRAWING, **featured(), **option)


def test_distances_cannot_be_re_ranked():
    with pytest.raises(InputError, match="re-ranking and pooling need features"):
        evaluate("market1501", **labelled(), distances=np.ones((40, 333)), rerank=True)


@pytest.mark.parametrize("repeats", [0, -1])
def test_draws_must_be_made(repeats):
    with pytest.raises(InputError, match=r"repeats: found .*, expected at least 1"):
        evaluate(DRAWING, **featured(), repeats=repeats)


def test_an_unknown_protocol_has_near_matches():
    with pytest.raises(UnknownName, match="did you mean 'market1501'"):
        evaluate("market-1501", **featured())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery_pids": np.full(333, 50)}, "of 40 the identity is not in the gallery"),
        ({"query_pids": np.full(40, -1), "gallery_pids": np.full(333, -1)}, "40 show nobody by their label"),
        ({"query_camids": np.zeros(40, int), "gallery_camids": np.zeros(333, int)}, "own camera only"),
    ],
    ids=["absent", "nobody", "camera"],
)
def test_no_match_at_all_says_which_rule_removed_them(changes, message):
    with pytest.raises(InputError, match=f"none of the 40 queries has a true match: .*{message}"):
        evaluate("market1501", **(featured() | changes))
