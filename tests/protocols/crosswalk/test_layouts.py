"""Every layout: names, counts, formats, who is where, and what a writer leaves on disk."""

import json
import re
from collections import defaultdict
from functools import cache
from hashlib import sha256
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from protocols import PROTOCOLS
from protocols.crosswalk import LAYOUTS, SIZES, STREET_VERSION, Dials, layout_named, render, write_street
from protocols.crosswalk.cache import folder_name
from protocols.crosswalk.develop import resized
from protocols.crosswalk.scene import compose, photograph
from protocols.crosswalk.truth import JOINTS, PARTS
from protocols.crosswalk.walks import Street
from protocols.files import count
from retable.errors import UnknownName

PEOPLE = r"(?P<pid>\d{4})"
NAMES = {
    "market1501": r"[a-z_]+/(?P<pid>-1|\d{4})_c(?P<camid>[1-6])s[1-6]_\d{6}_\d{2}\.jpg(\.jpg)?",
    "dukemtmc": rf"[a-z_]+/{PEOPLE}_c(?P<camid>[1-8])_f\d{{7}}\.jpg",
    "cuhk03-np": rf"(labeled|detected)/[a-z_]+/{PEOPLE}_c(?P<camid>[12])_\d+\.png",
    "cuhk01": rf"{PEOPLE}00(?P<image>[1-4])\.png",
    "viper": r"cam_(?P<view>[ab])/(?P<pid>\d{3})_(0|45|90|135|180)\.bmp",
    "msmt17": rf"(train|test)/{PEOPLE}/(?P=pid)_\d{{3}}_(?P<camid>\d{{2}})"
    r"_\d{4}(morning|noon|afternoon)_\d{4}_\d\.jpg",
}
FORMATS = {
    "market1501": ("JPEG", (64, 128)),
    "dukemtmc": ("JPEG", (64, 128)),
    "cuhk03-np": ("PNG", None),
    "cuhk01": ("PNG", (60, 160)),
    "viper": ("BMP", (48, 128)),
    "msmt17": ("JPEG", None),
}
SUFFIXES = {".jpg", ".png", ".bmp"}

every_layout = pytest.mark.parametrize("name", LAYOUTS)
layouts_of_stills = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """Gives the release folder of the street that ``layout_street`` gives, rendered anew, with truth."""
    return cache(
        lambda name: write_street(tmp_path_factory.mktemp(name), name, "tiny", workers=1, truth=True)
    )


def planned(name, size="tiny", seed=5, dials=Dials()):  # noqa: B008
    layout = layout_named(name)
    return layout.plan(layout.sizes[size], seed, dials)


def camera_in(match):
    found = match.groupdict()
    if "image" in found:
        return 1 if found["image"] in "12" else 2
    return "ab".index(found["view"]) + 1 if "view" in found else int(found["camid"])


def digests(root):
    return {
        file.relative_to(root).as_posix(): sha256(file.read_bytes()).hexdigest()
        for file in root.rglob("*")
        if file.is_file()
    }


@layouts_of_stills
@pytest.mark.parametrize("size", ["tiny", "default"])
def test_names_follow_the_grammar_and_say_what_the_labels_say(name, size):
    for shot in planned(name, size):
        match = re.fullmatch(NAMES[name], f"{shot.folder}/{shot.name}".lstrip("/"))
        assert match, shot.name
        assert (int(match["pid"]), camera_in(match)) == (shot.pid, shot.camid)


@every_layout
def test_a_plan_is_sorted_has_no_name_twice_and_depends_on_its_seed(name):
    shots = planned(name, "default")
    places = [(shot.folder, shot.name) for shot in shots]

    assert places == sorted(set(places))
    assert shots == planned(name, "default")
    assert [shot.subject for shot in planned(name)] != [shot.subject for shot in planned(name, seed=6)]


@every_layout
def test_every_protocol_that_is_counted_finds_on_disk_what_the_manifest_says(name, layout_street):
    root = layout_street(name)
    counts = json.loads((root / "crosswalk.json").read_text())["counts"]

    assert counts
    for key, stated in counts.items():
        protocol = PROTOCOLS.get(key)()
        assert protocol.folder == root.name
        if protocol.prepare is not None:
            continue  # needs its images unpacked first
        for split in protocol.load(root):
            found = count(split, protocol)
            assert {number: found[number] for number in stated} == stated


@every_layout
def test_the_list_of_names_and_the_manifest_are_those_of_the_folder(name, layout_street):
    root = layout_street(name)
    facts = json.loads((root / "crosswalk.json").read_text())
    listed = (root / "names.txt").read_text().splitlines()

    assert listed == sorted(digests(root).keys() - {"crosswalk.json", "names.txt"})
    assert (root.name, facts["layout"]) == (layout_named(name).root, name)
    assert (facts["street_version"], facts["size"]["name"], facts["seed"]) == (STREET_VERSION, "tiny", 0)
    assert sum(facts["folders"].values()) == len(listed)
    for folder, digest in facts["files"].items():
        own = [
            file.removeprefix(f"{folder}/") for file in listed if file.startswith(f"{folder}/") or not folder
        ]
        own = [file for file in own if folder or "/" not in file]
        assert digest == sha256("".join(f"{file}\n" for file in own).encode()).hexdigest()


@layouts_of_stills
def test_the_images_on_disk_are_those_of_the_plan(name, layout_street):
    root = layout_street(name)
    there = {file for file in digests(root) if file[-4:] in SUFFIXES}
    assert there == {f"{shot.folder}/{shot.name}".lstrip("/") for shot in planned(name, seed=0)}


@layouts_of_stills
def test_images_have_the_format_and_the_size_of_the_release(name, layout_street):
    form, shape = FORMATS[name]
    shapes = set()
    for file in layout_street(name).rglob("*"):
        if file.suffix in SUFFIXES:
            with Image.open(file) as image:
                assert (image.format, image.mode) == (form, "RGB")
                shapes.add(image.size)
    assert shapes == {shape} if shape else len(shapes) > 20


@every_layout
def test_an_encoded_image_is_neither_mirrored_nor_recoloured(name):
    rows, columns = np.mgrid[0:128, 0:64]
    image = np.stack([4 * columns, 2 * rows, np.full_like(rows, 60)], axis=2).astype(np.uint8)
    encoded = layout_named(name).encode(image, 90, planned(name)[0])
    with Image.open(BytesIO(encoded)) as file:
        decoded = resized(np.asarray(file), 64, 128)
    assert np.abs(decoded.astype(int) - image).mean() < 4  # grey levels


@pytest.mark.parametrize("name", [name for name in LAYOUTS if name != "cuhk03"])  # which packs its images
def test_an_image_on_disk_is_the_one_of_its_name(name, layout_street):
    layout, shots, street = layout_named(name), planned(name, seed=0), Street(0, Dials())
    for shot in shots[:: len(shots) // 7]:
        scene = compose(street, shot)
        expected = layout.encode(photograph(street, shot, scene), scene.view.quality, shot)
        assert (layout_street(name) / shot.folder / shot.name).read_bytes() == expected


@every_layout
def test_a_second_run_writes_the_same_bytes_and_truth_only_adds_to_them(name, layout_street, again):
    files = {file: digest for file, digest in digests(again(name)).items() if not file.startswith("truth/")}
    assert files == digests(layout_street(name))


@every_layout
def test_two_workers_write_what_one_writes(name, asked_for, tmp_path):
    shots = planned(name)
    shots, encode, truths = shots[:: len(shots) // 20], layout_named(name).encode, []
    for workers in (1, 2):
        root = tmp_path / str(workers)
        for shot in shots:
            (root / shot.folder).mkdir(parents=True, exist_ok=True)
        truths.append(render.write_shots(root, Street(5, Dials()), shots, encode, workers, True, None))
    assert asked_for == [2]
    assert digests(tmp_path / "1") == digests(tmp_path / "2")
    for one, other in zip(*truths, strict=True):
        assert (one.joints == other.joints).all() and (one.parts == other.parts).all()


@every_layout
def test_an_interrupted_run_leaves_nothing(name, tmp_path, monkeypatch):
    def interrupt(done, total):
        assert 0 < done < total
        raise KeyboardInterrupt

    monkeypatch.setattr(render, "CHUNK", 10)
    with pytest.raises(KeyboardInterrupt):
        write_street(tmp_path, name, "tiny", workers=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_layouts_do_not_share_cached_folders():
    market, dials = SIZES["tiny"], Dials()
    tiny = {folder_name(name, layout_named(name).sizes["tiny"], 0, dials) for name in LAYOUTS}
    assert len(tiny) == len(LAYOUTS)
    hashes = {folder_name(name, market, 0, dials).rpartition("-")[2] for name in LAYOUTS}
    assert len(hashes) == len(LAYOUTS)


def halves(shots):
    """Training and test subjects, of layouts that part them by folder."""
    found = defaultdict(set)
    for shot in shots:
        if not shot.folder.startswith("gt_"):
            found["train" in shot.folder].add(shot.subject)
    return found[True], found[False]


@pytest.mark.parametrize("name", ["market1501", "dukemtmc", "msmt17"])
def test_nobody_and_no_look_is_in_train_and_test(name):
    train, test = halves(planned(name, "default", dials=Dials(confusers=0.5)))
    for attribute in ("name", "look"):
        assert not {getattr(who, attribute) for who in train} & {getattr(who, attribute) for who in test}


@layouts_of_stills
def test_a_label_is_one_person_everywhere_and_nobody_has_two(name):
    who, label = defaultdict(set), defaultdict(set)
    for shot in planned(name, "default"):
        if shot.pid > 0 or name != "market1501":  # Market's strays share a label
            space = shot.folder.partition("/")[0] if name == "msmt17" else ""
            who[space, shot.pid].add(shot.subject)
            label[shot.subject].add((space, shot.pid))
    assert all(len(own) == 1 for own in (*who.values(), *label.values()))


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("market1501", {"bounding_box_train", "bounding_box_test", "query", "gt_bbox"}),
        ("msmt17", {"train", "test"}),
        ("cuhk01", {"images"}),
    ],
)
def test_truth_is_written_for_images_in_any_folder(name, files, again):
    root = again(name)
    truths = {file.stem: np.load(file) for file in (root / "truth").iterdir()}
    shown = []
    for top, truth in truths.items():
        n = len(truth["names"])
        shown += [path if top == "images" else f"{top}/{path}" for path in truth["names"].tolist()]
        assert truth["joints"].shape == (n, len(JOINTS), 3)
        assert truth["parts"].shape == (n, 128, 64) and truth["parts"].max() < len(PARTS)
    assert truths.keys() == files
    assert sorted(shown) == sorted(file for file in digests(root) if file[-4:] in SUFFIXES)


def test_an_unknown_layout_is_explained():
    with pytest.raises(UnknownName, match="did you mean 'dukemtmc'"):
        layout_named("dukemtmc-reid")


@every_layout
def test_an_unknown_size_lists_those_of_the_layout(name):
    layout = layout_named(name)
    sizes = sorted({"tiny", "default", "release", *layout.sizes})
    with pytest.raises(UnknownName, match=f"known: {', '.join(sizes)}$"):
        layout.size_named("huge")
