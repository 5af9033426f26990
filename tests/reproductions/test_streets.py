"""Streets in the layouts of a paper's data sets: which there are, who is on them, and training on them."""

import json
import shutil
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from protocols.crosswalk import LAYOUTS, layout_named
from protocols.crosswalk.looks import look_of
from reproductions.artefacts import artefacts
from reproductions.campaign import run_jobs
from reproductions.execute import build, run_seed
from reproductions.jobs import STREET, Changes, Street, make_job, on_street, street_seed
from reproductions.judgement import Judgement
from reproductions.paper import Dataset, OnStreet
from reproductions.pose_recipe import POSE_RECIPE
from reproductions.records import load_records
from reproductions.selection import datasets_here, select_jobs, streets
from reproductions.spec import load_paper
from retable.errors import RetableError, UnknownName, WeightsError

MINI = Path(__file__).with_name("papers")
ROW = "Net"
DATASETS = {
    "market1501": Dataset(),
    "market1501+500k": Dataset(trained_on="market1501"),
    "market1501/multi-query": Dataset(trained_on="market1501"),
    "mars": Dataset(recipe={"proxy": {"epochs": 1}}),
    "cuhk03-labeled": Dataset(),
    "cuhk01-486": Dataset(starts_from="cuhk03-labeled"),
}


@pytest.fixture(scope="module")
def paper():
    """The mini paper, its first row printed for six data sets."""
    mini = load_paper("mini", MINI)
    rows = mini.rows | {ROW: mini.rows[ROW].model_copy(update={"datasets": tuple(DATASETS)})}
    return mini.model_copy(update={"datasets": DATASETS, "rows": rows})


@pytest.fixture
def select(paper):
    def selected(*datasets, rows=(ROW,), scale=None, root=None):
        jobs = select_jobs(
            paper, table=None, rows=rows, datasets=datasets, scale=scale, root=root, changes=Changes()
        )
        return [(job.dataset, job.scale) for job in jobs]

    return selected


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    """Streets and weights of these tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETABLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def test_the_plain_street_is_what_it_was():
    """Every committed proxy record is of it: its identity is that of before there were other layouts."""
    identity = Street().identity()

    assert list(identity) == ["street", "size", "seed", "dials"]
    assert (identity["seed"], identity["size"]["name"], identity["size"]["good"]) == (0, "default", 1000)
    assert json.dumps(identity["dials"], sort_keys=True) == (
        '{"camera_shift": 0.3, "confusers": 0.2, "misalignment": 0.2, "occlusion": 0.15, "viewpoint": 0.5}'
    )


def test_data_sets_with_a_layout_have_streets(paper):
    assert streets(paper) == [
        STREET,
        *(f"{STREET}/{name}" for name in DATASETS if name != "market1501+500k"),  # half a million images
    ]
    with pytest.raises(UnknownName, match=r"market1501\+500k"):
        make_job(paper, ROW, f"{STREET}/market1501+500k", "proxy")


def test_no_two_layouts_show_the_same_people():
    seeds = {layout: street_seed(layout) for layout in LAYOUTS}

    assert seeds["market1501"] == 0
    assert len({*seeds.values(), POSE_RECIPE.street_seed}) == len(LAYOUTS) + 1
    looks = {}
    for layout in ("cuhk01", "cuhk03"):
        form = layout_named(layout)
        subjects = {shot.subject for shot in form.plan(form.sizes["tiny"], seeds[layout], Street().dials)}
        looks[layout] = {repr(look_of(seeds[layout], subject)) for subject in subjects}
    assert looks["cuhk01"].isdisjoint(looks["cuhk03"])


def test_a_street_is_judged_and_trained_as_its_data_set(paper):
    mars, plain = (make_job(paper, ROW, name, "proxy") for name in (f"{STREET}/mars", STREET))

    assert (mars.data.layout, mars.data.protocol.name, mars.data.size) == ("mars", "mars", "tiny")
    assert (mars.recipe.epochs, plain.recipe.epochs) == (1, 4)
    assert mars.row_hash != plain.row_hash
    assert mars.identity["data"]["layout"] == "mars"


def test_market1501s_own_street_is_the_plain_one(paper):
    plain, named, several = (
        make_job(paper, ROW, STREET + name, "proxy")
        for name in ("", "/market1501", "/market1501/multi-query")
    )

    assert named.dataset == several.trained_on == STREET
    assert plain.row_hash == named.row_hash == several.row_hash
    assert several.dataset == f"{STREET}/market1501/multi-query"


def test_the_plain_street_is_in_the_layout_of_its_protocols_release(paper):
    of_viper = {
        "street": OnStreet(protocol="viper"),
        "datasets": paper.datasets | {"viper": Dataset()},
    }
    plain, named, market = (
        make_job(paper.model_copy(update=of_viper), ROW, STREET + name, "proxy")
        for name in ("", "/viper", "/market1501")
    )

    assert (plain.data.layout, plain.data.protocol.name) == ("viper", "viper")
    assert plain.data.seed == street_seed("viper")
    assert (named.dataset, named.row_hash) == (STREET, plain.row_hash)
    assert (market.dataset, market.data) == (f"{STREET}/market1501", Street("tiny"))
    strange = paper.model_copy(update={"street": OnStreet(protocol="market1501+500k")})
    with pytest.raises(UnknownName, match=r"street in the form of 'market1501\+500k'"):
        make_job(strange, ROW, STREET, "proxy")


def test_streets_that_are_asked_for_are_run_as_proxies(select):
    assert select() == [(STREET, "proxy")]
    assert select(f"{STREET}/mars") == [(f"{STREET}/mars", "proxy")]
    assert select(STREET, f"{STREET}/cuhk01-486", scale="proxy") == [
        (STREET, "proxy"),
        (f"{STREET}/cuhk01-486", "proxy"),
    ]
    with pytest.raises(RetableError, match=r"--on mars with --scale proxy: .* crosswalk, .*crosswalk/mars"):
        select("mars", scale="proxy")
    with pytest.raises(RetableError, match="--on crosswalk/mars with --scale paper"):
        select(f"{STREET}/mars", scale="paper")
    with pytest.raises(UnknownName, match="crosswalk/viper"):
        select(f"{STREET}/viper")


def test_data_sets_are_here_with_all_that_they_need_beyond_the_release(paper, tmp_path):
    release = tmp_path / "Market-1501-v15.09.15"
    (release / "query").mkdir(parents=True)
    (tmp_path / "campus").mkdir()

    assert datasets_here(paper, tmp_path) == ["market1501"]  # damaged, which is said when it is read
    (release / "gt_bbox").mkdir()
    (tmp_path / "distractors_500k").mkdir()
    (tmp_path / "cuhk03_release").mkdir()
    assert datasets_here(paper, tmp_path) == [
        *("market1501", "market1501+500k", "market1501/multi-query"),
        *("cuhk03-labeled", "cuhk01-486"),
    ]
    assert datasets_here(paper, None) == []


class TestPose:
    def job(self, paper, pose, dataset=STREET, **changes):
        fields = {"pose": pose} if pose else {}
        return make_job(paper, ROW, dataset, "proxy", changes=Changes(recipe_fields=fields, **changes))

    def test_none_leaves_the_row_as_it_is(self, paper):
        plain = self.job(paper, "")

        assert plain.row_hash == self.job(paper, "none", pose_weights="file").row_hash
        assert "pose" not in plain.identity
        assert self.job(paper, "none", pose_weights="file").pose_weights == ""

    def test_the_published_network_needs_a_file(self, paper):
        job = self.job(paper, "openpose")

        with pytest.raises(WeightsError, match=r"Net on crosswalk .*pytorch-openpose.*--pose-weights FILE"):
            job.refuse_missing_pose()
        given = self.job(paper, "openpose", pose_weights="file.pth")
        given.refuse_missing_pose()
        assert given.pose_weights == "file.pth"
        assert given.row_hash == job.row_hash != self.job(paper, "").row_hash

    def test_a_network_of_the_street_is_part_of_what_decides(self, paper):
        job = self.job(paper, "street")

        identity = job.identity["pose"]
        assert identity["image"] == [job.recipe.height, job.recipe.width]
        assert identity["people"]["seed"] == POSE_RECIPE.street_seed
        assert not job.lacks_pose

    def test_options_that_are_not_stated_are_the_methods_own(self):
        from methods.pabr import PABR

        defaults = PABR.parse_options({})
        job = make_job(load_paper("mini", MINI), ROW, STREET, "proxy")
        assert job.pose_network[:2] == (defaults.pose, defaults.pose_width)


class TestStartingFromAnother:
    ON = f"{STREET}/cuhk01-486"
    BEFORE = f"{STREET}/cuhk03-labeled"

    @pytest.fixture
    def job(self, paper, own_cache):  # noqa: ARG002
        """One step that is too small to move a weight."""
        fields = {"epochs": 1, "schedule": [[1, 1e-12]], "weight_decay": 0}
        return make_job(paper, ROW, self.ON, "proxy", changes=Changes(recipe_fields=fields))

    def weights(self, job, num_pids):
        """Weights of a network of that many identities, in the place of those it starts from."""
        file = artefacts(job.starts_from[0].row_hash, 1).weights
        file.parent.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.clone() for name, tensor in build(job, 99, num_pids).state_dict().items()}
        save_file(state, file)
        return file, state

    def run(self, job, tmp_path, seed=1):
        return run_seed(job, seed, "cpu", tmp_path / "results", Console(file=StringIO()))

    def test_it_is_the_same_row_there(self, paper, job):
        (before,) = job.starts_from

        assert job.goes_on
        assert (before.dataset, before.row, before.stage, job.stage) == (self.BEFORE, ROW, 0, 1)
        assert before.recipe == job.recipe
        assert job.identity["starts_from"] == before.row_hash
        assert before.starts_from == ()
        (real,) = make_job(paper, ROW, "cuhk01-486", "paper").starts_from
        assert real.dataset == "cuhk03-labeled"

    def test_everything_but_layers_of_identities_is_taken_over(self, job, tmp_path):
        _, before = self.weights(job, 3)

        record, kept = self.run(job, tmp_path)

        after, own = load_file(kept.weights), build(job, 1, 12).state_dict()
        learnt = [
            name for name, tensor in before.items() if tensor.is_floating_point() and "running" not in name
        ]
        of_identities = [name for name in learnt if after[name].shape != before[name].shape]
        assert of_identities
        for name in learnt:
            torch.testing.assert_close(after[name], (own if name in of_identities else before)[name])
        assert record.split == "1"

    @pytest.mark.parametrize("fault", ["size", "missing", "unknown"])
    def test_weights_of_another_network_are_refused(self, job, tmp_path, fault):
        file, state = self.weights(job, 3)
        name = next(name for name, tensor in state.items() if tensor.ndim == 4)
        match fault:
            case "size":
                state[name] = state[name][:1]
            case "missing":
                del state[name]
            case "unknown":
                name = "another.weight"
                state[name] = torch.zeros(2)
        save_file(state, file)

        with pytest.raises(WeightsError, match=rf"weights.safetensors: .*{name}"):
            self.run(job, tmp_path)

    def test_what_it_starts_from_is_trained_and_recorded_first(self, job, tmp_path, empty_store):
        store = shutil.copy(empty_store, tmp_path)

        run_jobs(
            [job],
            [11],
            device="cpu",
            results=tmp_path / "results",
            tracking_uri=f"sqlite:///{store}",
            fresh=False,
            console=Console(file=StringIO()),
        )

        records = load_records(tmp_path / "results")
        splits = {record.dataset: (record.row_hash, record.seed, record.split) for record in records}
        assert splits == {
            self.BEFORE: (job.starts_from[0].row_hash, 11, "11"),
            self.ON: (job.row_hash, 11, "1"),  # CUHK01 has ten splits, CUHK03 twenty
        }
        assert all(on_street(record.dataset) and record.scale == "proxy" for record in records)


@pytest.mark.usefixtures("own_cache")
def test_tracklets_of_a_street_are_trained_on_and_judged(paper, tmp_path):
    job = make_job(paper, ROW, f"{STREET}/mars", "proxy")

    record, _ = run_seed(job, 0, "cpu", tmp_path, Console(file=StringIO()))

    assert record.identity["protocol"][0] == "mars"
    judgement = Judgement(paper, [record])
    assert judgement.is_present(record)
    assert list(judgement.records(ROW, f"{STREET}/mars", "proxy")) == [0]
    assert not judgement.records(ROW, STREET, "proxy")
