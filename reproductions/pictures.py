"""Kinds of pictures of trained seeds: what each needs of a method, and what it shows of which images."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from methods import METHODS
from protocols import Record
from reproductions.alignment import align, sentence, true_transforms
from reproductions.body_parts import JOINT_PARTS, OTHER, TRUE_PARTS, cells_by_joints, cells_by_truth
from reproductions.box_figure import Boxed, box_figure, displacement
from reproductions.component_figure import Coloured, component_figure
from reproductions.embedding_figure import NEIGHBOURS, embedding_figure, patches_of
from reproductions.gate_figure import Partner, Query, gate_figure
from reproductions.heat_figure import Heated, heat_figure
from reproductions.jobs import DIALS, Job, Street
from reproductions.list_figure import Found, Listed, list_figure
from reproductions.matching_figure import matching_figure
from reproductions.principal import Components, principals
from reproductions.records import UNSAFE
from reproductions.tiles import Pixels
from reproductions.trained import Pair, Trained, shown
from retable.errors import RetableError, SpecError

TEMPERATURES = (0.05, 0.5, 1.0)
MARKS = ((0.12, 0.5), (0.38, 0.5), (0.75, 0.5))
"""Head, trunk and legs of somebody who fills the image, as shares (down, right)."""

SHOWN_HEIGHT = 256
"""Pixels of an image on the page; the width keeps the recipe's ratio."""

LIST_LENGTH = 5

IMAGES_A_PERSON = 3

LOCAL_MAPS = {
    "appearance": "appearance",
    "part": "part",
    "joints": "joints",
    "joints before": "joints before\nthis training",
}
"""Maps of local descriptors, and how they are called on the page."""

POINTS = 3000
"""Local descriptors in a picture of them all, about."""

LONGEST_NAME = 255
"""Bytes of a file name that the usual file systems take."""

Picture = tuple[str, Figure]
"""A file name and what belongs into it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of picture.

    Attributes:
        shows: what it shows, in words.
        asks: the method's function that it is made by; methods without it have no such picture.
        draw: the pictures of some rows on one data set, for about so many images.
    """

    shows: str
    asks: str
    draw: Callable[[Sequence[Trained], int], Iterator[Picture]]

    def has(self, job: Job) -> bool:
        """Whether there are such pictures of the row."""
        return hasattr(METHODS.get(job.method), self.asks)

    def methods(self) -> list[str]:
        """Names of the methods that have such pictures."""
        return [name for name in METHODS.names() if hasattr(METHODS.get(name), self.asks)]


def chosen(jobs: Sequence[Job], kinds: Sequence[str], named: bool) -> tuple[list[Job], list[str]]:
    """Which jobs are drawn, all on one data set, and how.

    Args:
        jobs: of the rows that are named, or of all headline rows.
        kinds: keys of ``KINDS``; empty for all that any of the rows has.
        named: whether rows are named: then all of them are drawn, else the last that has those kinds, or
            the most kinds.

    Raises:
        RetableError: a named row has no picture of a named kind, or no row has; or the named rows have no
            data set in common.
    """
    if not named:
        jobs = [max(reversed(jobs), key=lambda job: sum(KINDS[kind].has(job) for kind in kinds or KINDS))]
    for kind in kinds:
        _refuse_lacking(kind, jobs)
    found = on_one_dataset(jobs)
    return found, [
        kind for kind in KINDS if kind in kinds or (not kinds and any(map(KINDS[kind].has, found)))
    ]


def on_one_dataset(jobs: Sequence[Job]) -> list[Job]:
    """The jobs of the last data set that all rows are on. Raises ``RetableError`` where there is none."""
    rows = {job.row for job in jobs}
    together = {name: [job for job in jobs if job.dataset == name] for name in (job.dataset for job in jobs)}
    found = [several for several in together.values() if {job.row for job in several} == rows]
    if not found:
        on = ", ".join(f"{job.row} on {job.dataset}" for job in jobs)
        raise RetableError(f"found {on}; expected rows that share a data set, which --on names")
    return found[-1]


def _refuse_lacking(kind: str, jobs: Sequence[Job]) -> None:
    lacking = dict.fromkeys(f"{job.row} (method {job.method})" for job in jobs if not KINDS[kind].has(job))
    if lacking:
        raise RetableError(
            f"--kind {kind}: found {', '.join(lacking)}, which has no {KINDS[kind].shows}; expected rows of "
            f"methods that have: {', '.join(KINDS[kind].methods())}"
        )


def draw_matching(rows: Sequence[Trained], count: int) -> Iterator[Picture]:
    """Of each row, some queries each with its nearest true match, and a mistake if there is one."""
    for trained in rows:
        mistake = trained.mistake()
        for pair in [*trained.matches(count), *([mistake] if mistake else [])]:
            yield file_name([trained], f"query{pair.query}-{pair.relation}"), draw_pair(trained, pair)


def draw_pair(trained: Trained, pair: Pair) -> Figure:
    """The figure of one query and one gallery image; ``Figure.savefig`` or a report takes it."""
    asking, asked = trained.queries(pair.query), trained.gallery(pair.other)
    by_temperature = {tau: trained.method.confidence_maps(asking, asked, tau) for tau in TEMPERATURES}
    query, other = trained.query(pair.query), trained.other(pair.other)
    relation = {"match": "its nearest true match", "mistake": "nearer than any true match: somebody else"}
    return matching_figure(
        image(trained, query),
        image(trained, other),
        {scale: maps[0].cpu().numpy() for scale, maps in trained.method.attention_maps(asking).items()},
        {
            scale: {tau: maps[scale][0].cpu().numpy() for tau, maps in by_temperature.items()}
            for scale in by_temperature[TEMPERATURES[0]]
        },
        MARKS,
        f"{heading([trained])}\nquery {caption(query)} and {relation[pair.relation]}, {caption(other)}",
    )


def draw_gate(rows: Sequence[Trained], count: int) -> Iterator[Picture]:
    """Of each row, some queries each with its nearest true match and the nearest image of somebody else."""
    for trained in rows:
        queries = [
            Query(
                image(trained, trained.query(query)),
                caption(trained.query(query)),
                _partners(
                    trained, query, {"true match": match, "other person": trained.nearest_wrong(query)}
                ),
            )
            for query, match, _ in trained.matches(count)
        ]
        what = "queries, each first in a pair with its nearest true match, and with the nearest other person"
        yield file_name([trained], "gate"), gate_figure(queries, f"{heading([trained])}\n{what}")


def _partners(trained: Trained, query: int, others: Mapping[str, int]) -> list[Partner]:
    """Gallery images by what they are to a query, with the maps of their pairs."""
    asking = trained.queries(query).expand(len(others), -1, -1, -1)
    maps = trained.method.gate_maps(asking, trained.gallery(*others.values()))
    ranked = trained.nearest(query).tolist()
    return [
        Partner(
            image(trained, trained.other(place)),
            f"{relation}\nrank {1 + ranked.index(place)}",
            {name: values[i].cpu().numpy() for name, values in maps.items()},
        )
        for i, (relation, place) in enumerate(others.items())
    ]


def draw_boxes(rows: Sequence[Trained], count: int) -> Iterator[Picture]:
    """The images, one a person, that the last row moves most; on the street, how that fits the people.

    Rows that move none, as they have no transformer, are left out; nothing is drawn where no row moves any.
    """
    places = rows[0].people()
    by_row = [(one, one.transforms(places)) for one in rows]
    moving = [(one, a) for one, a in by_row if displacement(a).any()]
    if not moving:
        return
    rows, found = [one for one, _ in moving], [a for _, a in moving]
    first, last = rows[0], rows[-1]
    moved = displacement(found[-1])
    strongest = one_each(
        [last.other(place).pid for place in places.tolist()], np.argsort(-moved, kind="stable")
    )
    images = []
    for place in strongest[:count].tolist():
        record = last.other(int(places[place]))
        images.append(Boxed(image(first, record), caption(record), [several[place] for several in found]))
    what = f"before and after the learned transform: people of the gallery whom {last.job.row} moves most"
    records = [last.other(place) for place in places.tolist()]
    footer = _alignment(rows, found, records)
    figure = box_figure(images, [one.job.row for one in rows], f"{heading(rows)}\n{what}", footer)
    yield file_name(rows, "boxes"), figure


def _alignment(
    rows: Sequence[Trained], transforms: Sequence[NDArray[np.float64]], records: Sequence[Record]
) -> str:
    """What the transforms do to errors of the detector; nothing where those are not known."""
    source = rows[0].job.data
    if not isinstance(source, Street):
        return ""
    truth = true_transforms(source, records)
    lines = [f"{one.job.row}: {sentence(align(a, truth))}" for one, a in zip(rows, transforms, strict=True)]
    head = (
        f"Spread of people's place and size in the {len(records)} detected boxes, percent of the person, "
        "before → after the transform (r: its correlation with the one that undoes the detector's error)"
    )
    return "\n".join([head, *lines])


def one_each(pids: Sequence[int], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of places in ``pids``, in some order, the first of each identity."""
    _, first = np.unique(np.asarray(pids)[order], return_index=True)
    return order[np.sort(first)]


def draw_heat(rows: Sequence[Trained], count: int) -> Iterator[Picture]:
    """Queries, spread over the list, with the activations of each row's last feature map."""
    first = rows[0]
    queries = [pair.query for pair in first.matches(count)]
    maps = [one.activations(*queries) for one in rows]
    images = [
        Heated(
            image(first, first.query(query)),
            caption(first.query(query)),
            [several[place] for several in maps],
        )
        for place, query in enumerate(queries)
    ]
    title = f"{heading(rows)}\nqueries spread over the list: activations of the backbone's feature map"
    yield file_name(rows, "heat"), heat_figure(images, [one.job.row for one in rows], title)


def draw_lists(rows: Sequence[Trained], count: int) -> Iterator[Picture]:
    """Queries with their nearest images by each row: spread over the list, or where rows differ most."""
    precisions = np.stack([one.average_precisions() for one in rows])
    if len(rows) == 1:
        queries, which = [pair.query for pair in rows[0].matches(count)], "spread over the list"
    else:
        queries = most_different(precisions, count)
        which = "whose average precision differs most between the rows"
    asked = [_listed(rows, query, precisions[:, query].tolist()) for query in queries]
    what = f"queries {which}, each with its {LIST_LENGTH} nearest images, junk left out"
    yield file_name(rows, "lists"), list_figure(asked, LIST_LENGTH, f"{heading(rows)}\n{what}")


def most_different(precisions: NDArray[np.float64], count: int) -> list[int]:
    """The queries whose average precisions by some rows, (R, Q), lie furthest apart; no NaN among them."""
    apart = np.ptp(precisions, axis=0)
    order = np.argsort(-np.nan_to_num(apart, nan=-1.0), kind="stable")
    found: list[int] = order[~np.isnan(apart[order])][:count].tolist()
    return found


def _listed(rows: Sequence[Trained], query: int, precisions: Sequence[float]) -> Listed:
    asking = rows[0].query(query)
    lists = []
    for one, precision in zip(rows, precisions, strict=True):
        records = [one.other(place) for place in one.nearest(query)[:LIST_LENGTH].tolist()]
        heading = (
            f"{one.job.row}: AP {precision:.1f}, first true match at rank {one.first_ranks()[query]:.0f}"
        )
        lists.append((heading, [_found(one, record, asking.pid) for record in records]))
    return Listed(image(rows[0], asking), f"query {query}\ncamera {asking.camid}", lists)


def _found(trained: Trained, record: Record, pid: int) -> Found:
    return Found(image(trained, record), f"camera {record.camid}", record.pid == pid)


def draw_components(rows: Sequence[Trained], count: int) -> Iterator[Picture]:
    """People, each seen by several cameras, with the three leading components of rows' local descriptors.

    Rows without local descriptors are left out; nothing is drawn where no row has any.
    """
    rows = [one for one in rows if has_local_maps(one)]
    if not rows:
        return
    first = rows[0]
    components = [principals(map(partial(local_maps, one), one.test_images())) for one in rows]
    people = {}
    for query, others in sightings(first, count):
        records = [first.query(query), *map(first.other, others)]
        coloured = [_coloured(one, of, query, others) for one, of in zip(rows, components, strict=True)]
        people[f"person {records[0].pid}"] = [
            Coloured(image(first, record), f"camera {record.camid}", maps)
            for record, *maps in zip(records, *coloured, strict=True)
        ]
    what = "people seen by several cameras: their local descriptors as colours"
    figure = component_figure(
        people, [one.job.row for one in rows], f"{heading(rows)}\n{what}", _shares(rows, components)
    )
    yield file_name(rows, "components"), figure


def has_local_maps(trained: Trained) -> bool:
    """Whether there are local descriptors in the row's variant of its method."""
    try:
        trained.method.local_maps(trained.queries(0))
    except SpecError:
        return False
    return True


def local_maps(trained: Trained, images: Tensor) -> dict[str, Tensor]:
    """The method's, and where training changed the pose network, joint maps before it: ``LOCAL_MAPS``."""
    maps: dict[str, Tensor] = trained.method.local_maps(images)
    if trained.untrained is not None:
        before = trained.untrained.local_maps(images)["joints"]
        if not torch.equal(before, maps["joints"]):
            maps["joints before"] = before
    return maps


def sightings(trained: Trained, count: int) -> list[tuple[int, list[int]]]:
    """At most ``count`` people, spread over those with true matches: a query, and gallery images.

    Of the person and of ``IMAGES_A_PERSON`` different cameras, or of all there are if these are fewer.
    """
    queries = {
        trained.query(pair.query).pid: pair.query for pair in trained.matches(len(trained.data.split.query))
    }
    pids = list(queries)
    chosen = np.linspace(0, len(pids) - 1, min(count, len(pids))).astype(int)
    found = []
    for pid in (pids[place] for place in chosen.tolist()):
        asking = trained.query(queries[pid])
        by_camera = {
            record.camid: place
            for place, record in reversed(list(enumerate(trained.data.split.gallery)))
            if record.pid == pid and record.camid != asking.camid
        }
        others = [by_camera[camera] for camera in sorted(by_camera)]
        found.append((queries[pid], others[: IMAGES_A_PERSON - 1]))
    return found


def _coloured(
    trained: Trained, components: Mapping[str, Components], query: int, others: Sequence[int]
) -> list[dict[str, Pixels]]:
    """Of a query and of some gallery images, the maps as colours, by how they are called."""
    images = torch.cat([trained.queries(query), trained.gallery(*others)])
    maps = local_maps(trained, images)
    colours = {LOCAL_MAPS[name]: of.colours(maps[name]) for name, of in components.items()}
    return [{name: values[place] for name, values in colours.items()} for place in range(len(images))]


def _shares(rows: Sequence[Trained], components: Sequence[Mapping[str, Components]]) -> str:
    """What the colours mean."""
    lines = [
        "Alike colours in a column are alike descriptors; colours of different columns are unrelated. Joints "
        "are the maps of the pose network. The three leading principal components of the descriptors of all "
        "test images are drawn as light, red against green, and yellow against blue, each by its deviation."
    ]
    for one, several in zip(rows, components, strict=True):
        shares = ", ".join(f"{name} {100 * of.share:.0f} %" for name, of in several.items())
        lines.append(f"Their share of the variance of {one.job.row}: {shares}")
    return "\n".join(lines)


def draw_embedding(rows: Sequence[Trained], count: int) -> Iterator[Picture]:  # noqa: ARG001 - of no query
    """Of each row, the local descriptors of people of the gallery in the plane.

    Rows without local descriptors are left out.
    """
    for one in filter(has_local_maps, rows):
        people = one.people()
        h, w = one.method.local_maps(one.gallery(int(people[0])))["part"].shape[2:]
        spread = np.linspace(0, len(people) - 1, min(len(people), POINTS // (h * w))).astype(int)
        places = people[spread].tolist()
        records = [one.other(place) for place in places]
        maps = one.method.local_maps(one.gallery(*places))
        cells, names, source = _body_parts(one, records, maps["joints"], (h, w))
        patches = patches_of(
            np.stack([image(one, record) for record in records]),
            cells, names, [record.pid for record in records],
        )  # fmt: skip
        descriptors = {
            name: maps[name].movedim(1, -1).flatten(0, 2).double().cpu().numpy()
            for name in ("appearance", "part")
        }
        title = (
            f"{heading([one])}\nlocal descriptors of {len(records)} images of people in the gallery, by t-SNE"
        )
        footer = (
            "Left: patches where their descriptors are, one of those in a place. Right: all, by the part of "
            f"the body {source}. Near ones are the {NEIGHBOURS} nearest descriptors of other people, all on "
            "the body."
        )
        yield file_name([one], "embedding"), embedding_figure(descriptors, patches, title, footer)


def _body_parts(
    trained: Trained, records: Sequence[Record], joints: Tensor, size: tuple[int, int]
) -> tuple[NDArray[np.int64], list[str], str]:
    """The part of the body in each cell (N, h, w), the names of parts, and who says so."""
    source = trained.job.data
    if isinstance(source, Street):
        cells = cells_by_truth(source, [record.images()[0] for record in records], size)
        if cells is not None:
            return cells, [OTHER, *TRUE_PARTS], "with most pixels, as the street knows"
    names = [OTHER, *JOINT_PARTS]
    return cells_by_joints(joints, size), names, "of the strongest joint that the pose network sees there"


def image(trained: Trained, record: Record) -> Pixels:
    """An image for the page, in the proportions that the network sees."""
    recipe = trained.job.recipe
    return shown(record, SHOWN_HEIGHT, SHOWN_HEIGHT * recipe.width // recipe.height)


def caption(record: Record) -> str:
    """For example ``0002_c1s1_000451_03.jpg (camera 1)``."""
    return f"{record.path.name} (camera {record.camid})"


def heading(rows: Sequence[Trained]) -> str:
    """Paper, rows, data set, scale, size of the street and what is turned there, and seed."""
    job = rows[0].job
    *others, last = [one.job.row for one in rows]
    labels = " and ".join([", ".join(others), last] if others else [last])
    paper, scale = job.paper.upper().replace("_", "-"), ", ".join([f"scale {job.scale}", *_settings(job)])
    return f"{paper}, {labels} on {job.dataset} ({scale}), seed {rows[0].seed}"


def file_name(rows: Sequence[Trained], ending: str) -> str:
    """For example ``kpm-Baseline+KPM-crosswalk-street-tiny-seed0-query12-match.png``.

    Labels that are too long for it are cut, and a digest of them follows.
    """
    job, labels = rows[0].job, "-and-".join(one.job.row for one in rows)
    end = "-".join(["", job.dataset, *_settings(job), f"seed{rows[0].seed}", f"{ending}.png"])
    start, end = (UNSAFE.sub("-", part).replace(" ", "-") for part in (f"{job.paper}-{labels}", end))
    room = LONGEST_NAME - len(end.encode())
    if len(start.encode()) > room:
        digest = f"-{sha256(labels.encode()).hexdigest()[:8]}"
        start = start.encode()[: room - len(digest)].decode(errors="ignore") + digest
    return start + end


def _settings(job: Job) -> list[str]:
    """In what the street is not the usual one, for example ``["street tiny", "misalignment 0.8"]``."""
    if not isinstance(job.data, Street):
        return []
    size, usual = job.data.size, asdict(DIALS)
    sizes = [f"street {size}"] if size != Street().size else []
    dials = asdict(job.data.dials).items()
    return sizes + [f"{name} {value:g}" for name, value in dials if value != usual[name]]


KINDS = {
    "matching": Kind("matching confidence", "confidence_maps", draw_matching),
    "gate": Kind("joint maps of pairs", "gate_maps", draw_gate),
    "boxes": Kind("learned transform", "transforms", draw_boxes),
    "heat": Kind("feature maps", "feature_maps", draw_heat),
    "lists": Kind("ranked lists", "describe", draw_lists),
    "components": Kind("local descriptors", "local_maps", draw_components),
    "embedding": Kind("local descriptors", "local_maps", draw_embedding),
}
