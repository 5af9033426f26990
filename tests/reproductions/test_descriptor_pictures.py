"""Pictures of local descriptors by the command, of small networks that are not trained at all."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from rich.console import Console

from reproductions import pictures
from reproductions.body_parts import JOINT_PARTS, OTHER, cells_by_truth
from reproductions.jobs import make_job
from reproductions.pictures import draw_components, draw_embedding
from reproductions.principal import principals
from reproductions.trained import load
from tests.reproductions.untrained import keep_untrained, mini_with

RECIPE = """
[rows."{row}".recipe.proxy]
backbone = "googlenet"
backbone_options = {{ width = 0.05 }}
cutout_probability = 0.0
height = 64
width = 32
precision = "fp32"
method_options = {{ pose_width = 0.02, appearance_channels = 8, part_channels = 4, dimension = 16 }}
"""
POINTS = 120
ROWS = {"Aligned": "{}", "Fixed": "{ train_pose = false }", "Baseline": '{ aggregation = "none" }'}


@pytest.fixture
def rows(shell, monkeypatch):
    """Networks with weights as they are drawn; the pose network of the first is not the one it began with."""
    own = [
        f'[rows."{row}"]\nmethod = "pabr"\noptions = {options}\n{RECIPE.format(row=row)}'
        for row, options in ROWS.items()
    ]
    paper = mini_with(shell, monkeypatch, own)
    monkeypatch.setattr(pictures, "POINTS", POINTS)
    jobs = [make_job(paper, row, "crosswalk", "proxy") for row in ROWS]
    for job in jobs:
        keep_untrained(job, change=moved if job.row == "Aligned" else None)
    return load(jobs, 0, "cpu", Console(quiet=True))


def moved(method):
    method.pose.stage2["L2"].Mconv5_stage2_L2.weight.mul_(1.5)


def test_pictures_of_local_descriptors(shell, rows, monkeypatch):
    out = shell.folder / "pictures"
    kinds = ("--kind", "components", "--kind", "embedding", "--count", 1, "-o", out)

    drawn = shell("figures", "mini", "--row", "Baseline", "--row", "Aligned", *kinds)

    assert drawn.returncode == 0, drawn.stderr
    assert [file.removeprefix(f"{out}/") for file in drawn.stdout.split()] == [  # the baseline has none
        "mini-Aligned-crosswalk-street-tiny-seed0-components.png",
        "mini-Aligned-crosswalk-street-tiny-seed0-embedding.png",
    ]
    none = shell("figures", "mini", "--row", "Baseline", "--kind", "components")
    assert none.returncode == 2
    assert none.stderr.endswith("found no local descriptors in Baseline; name other rows\n")
    without = shell("figures", "mini", "--row", "Net", "--kind", "embedding")
    assert "found Net (method sona), which has no local descriptors" in without.stderr
    assert without.stderr.endswith("methods that have: pabr\n")

    maps_are_coloured_by_all_test_images(*rows[:2])
    people_are_seen_by_several_cameras(rows[0])
    points_are_the_cells_of_people(rows[0], monkeypatch)


@torch.no_grad()
def maps_are_coloured_by_all_test_images(trained, fixed):
    ((_, figure),) = draw_components([trained, fixed], 2)

    names = [axes.get_title().split("\n", 1)[1] for axes in figure.subfigs[0].axes[1:8]]
    usual = ["appearance", "part", "joints"]
    assert names == [*usual, "joints before\nthis training", *usual]  # a fixed pose network is what it was
    images = torch.cat(list(trained.test_images()))
    split = trained.data.split
    assert len(images) == len({record.path for record in (*split.query, *split.gallery)})
    local = trained.method.local_maps(images)
    (query, others), _ = pictures.sightings(trained, 2)
    shown = trained.method.local_maps(torch.cat([trained.queries(query), trained.gallery(*others)]))
    for column, name in ((1, "appearance"), (2, "part"), (3, "joints")):
        expected = principals([{name: local[name]}])[name].colours(shown[name])
        for line, colours in enumerate(expected):
            found = figure.subfigs[0].axes[8 * line + column].images[0].get_array()
            np.testing.assert_allclose(found.astype(int), colours.astype(int), atol=1)


def people_are_seen_by_several_cameras(trained):
    found = pictures.sightings(trained, 5)

    assert len({trained.query(query).pid for query, _ in found}) == len(found) == 5
    for query, others in found:
        records = [trained.query(query), *map(trained.other, others)]
        assert len({record.pid for record in records}) == 1
        assert len({record.camid for record in records}) == len(records) in (2, 3)


def points_are_the_cells_of_people(trained, monkeypatch):
    drawn = []

    def noted(descriptors, patches, *_):
        drawn.append((descriptors, patches))
        return Figure()

    monkeypatch.setattr(pictures, "embedding_figure", noted)
    elsewhere = SimpleNamespace(job=SimpleNamespace(data=None))
    list(draw_embedding([trained], 1))
    ((descriptors, patches),) = drawn

    people = trained.people()
    chosen = people[np.linspace(0, len(people) - 1, POINTS // 8).astype(int)].tolist()  # maps of 4 x 2
    records = [trained.other(place) for place in chosen]
    local = trained.method.local_maps(trained.gallery(*chosen))
    truth = cells_by_truth(trained.job.data, [record.path for record in records], (4, 2))
    for point, (n, row, column) in enumerate(np.ndindex(len(chosen), 4, 2)):
        for kind in ("appearance", "part"):
            np.testing.assert_allclose(descriptors[kind][point], local[kind][n, :, row, column])
        assert patches.people[point] == records[n].pid
        assert patches.parts[point] == truth[n, row, column]
    cells, names, source = pictures._body_parts(elsewhere, records, local["joints"], (4, 2))
    assert cells.shape == truth.shape and names == [OTHER, *JOINT_PARTS]
    assert "pose network" in source
