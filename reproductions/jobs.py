"""A job is one printed row made runnable: what is trained, on which data, judged by which rules."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import ValidationError
from rich.console import Console

from methods import METHODS
from protocols import PROTOCOLS, Protocol
from protocols.crosswalk import LAYOUTS, STREET_VERSION, Dials, Layout, layout_named, street
from protocols.files import locate_release
from reproductions.paper import Dataset, Paper, RunScale
from reproductions.pose_recipe import PoseNetwork
from reproductions.pose_weights import street_pose_identity
from reproductions.pretraining_recipe import PRETRAINING, STREET_SEED, STREET_SIZE
from reproductions.recipe import TRAINING_VERSION, Recipe
from reproductions.records import RERANKED, ScoreKey, score_name, usual_way
from retable.errors import RetableError, SpecError, UnknownName, WeightsError
from retable.progress import progress_bar

STREET = "crosswalk"
"""The embedded street's key where data sets are named: the plain one, see ``paper.OnStreet``.

``crosswalk/mars`` is the street in the layout of MARS, judged by its protocol, and so on.
"""

STREET_WEIGHTS = "street"
"""What a network's weights are called where it is trained on other people of the street first."""

NAMED_WEIGHTS = ("imagenet", STREET_WEIGHTS, "none")
"""All others are files."""

DIALS = Dials()

MARKET_LAYOUT = "market1501"


def on_street(dataset: str) -> bool:
    """Whether a data set's key is one of the street's."""
    return dataset == STREET or dataset.startswith(f"{STREET}/")


def stands_for(dataset: str) -> str:
    """The data set in whose layout a street is: of ``crosswalk/mars``, ``mars``; of any other key, itself."""
    return dataset.removeprefix(f"{STREET}/")


def has_rules(dataset: str) -> bool:
    """Whether there is a protocol for a data set's key, and for one of the street's a layout as well."""
    if on_street(dataset) and dataset != STREET:
        return bool(layout_of(stands_for(dataset)))
    return dataset == STREET or dataset in PROTOCOLS.names()


@cache
def rules_of(protocol: str) -> Protocol:
    """The protocol of that name, one object in all jobs, so that they share what was read by it."""
    return PROTOCOLS.get(protocol)()


@cache
def layout_of(protocol: str) -> str:
    """The street's layout that has what this protocol reads; empty without one.

    It is that of the protocol's release, if it states counts for the protocol, or for the data set of which
    that is a variant (``protocols.files.expected_counts``).
    """
    if protocol not in PROTOCOLS.names():
        return ""
    folder = rules_of(protocol).folder
    forms = [form for form in map(layout_named, LAYOUTS) if form.root == folder]
    names = {protocol, protocol.partition("/")[0]}
    return next((form.name for form in forms if names & _counted(form).keys()), "")


def _counted(form: Layout[Any]) -> dict[str, dict[str, int]]:
    tiny = form.size_named("tiny")
    return form.counts(tiny, form.plan(tiny, 0, DIALS))


def street_seed(layout: str) -> int:
    """Decides the people of a layout's street: others in each, as some are trained on before others."""
    return 0 if layout == MARKET_LAYOUT else int.from_bytes(sha256(layout.encode()).digest()[:2], "big")


@dataclass(frozen=True, slots=True)
class Street:
    """The embedded street.

    Attributes:
        size: one of its layout's sizes.
        seed: see ``street_seed``.
        dials: its settings.
        judged_by: key of the protocol whose rules it has.
        layout: data set in the form of whose release it is.
    """

    size: str = "default"
    seed: int = 0
    dials: Dials = DIALS
    judged_by: str = "market1501"
    layout: str = MARKET_LAYOUT

    @property
    def protocol(self) -> Protocol:
        """Whose rules it has."""
        return rules_of(self.judged_by)

    def identity(self) -> dict[str, Any]:
        """Everything that decides its bytes; of Market-1501's layout it has no name."""
        identity = {
            "street": STREET_VERSION,
            "size": asdict(layout_named(self.layout).size_named(self.size)),
            "seed": self.seed,
            "dials": asdict(self.dials),
        }
        return identity | ({} if self.layout == MARKET_LAYOUT else {"layout": self.layout})

    def folder(self, cache: Path, console: Console) -> Path:
        """Where it lies below ``cache``; rendered, and made ready to be read, if it is not there."""
        with progress_bar(console, "rendering the street") as bar:
            root = street(cache, self.size, self.seed, self.dials, progress=bar.update, layout=self.layout)
        if prepare := self.protocol.prepare:
            with FileLock(f"{root}.lock"), progress_bar(console, "unpacking the street") as bar:
                prepare(root, bar.update)
        return root


@dataclass(frozen=True, slots=True)
class Release:
    """A real data set below a data root."""

    protocol: Protocol
    data_root: Path

    def identity(self) -> dict[str, Any]:
        """The release's name; that a copy is whole is checked when it is read."""
        return {"release": self.protocol.folder}

    def folder(self, cache: Path, console: Console) -> Path:  # noqa: ARG002 - nothing to render
        """The release's folder. Raises ``DataError`` when it is not there, or is a rendered street."""
        return locate_release(self.protocol, self.data_root)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a command line may change in a row's definition; a changed row has another hash.

    Attributes:
        recipe: the recipe of another scale, for example the paper's on the street.
        weights: instead of the recipe's.
        precision: instead of the recipe's.
        pose_weights: file of the published pose network, for recipes that start from it.
        options: of the method, instead of the row's and the recipe's.
        recipe_fields: of the row's recipe, instead of its own.
        street: size of the embedded street, instead of the recipe's.
        dials: of the embedded street, instead of its defaults.
    """

    recipe: RunScale | None = None
    weights: str | None = None
    precision: str | None = None
    pose_weights: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe_fields: Mapping[str, Any] = field(default_factory=dict)
    street: str | None = None
    dials: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """As on the command line, for example ``--precision fp32 --set slope=0.2``; empty without any."""
        names = ("recipe", "weights", "precision", "pose_weights", "street")
        named = ((name.replace("_", "-"), getattr(self, name)) for name in names)
        words = [f"--{name} {value}" for name, value in named if value]
        words += [f"--set {name}={value}" for name, value in self.options.items()]
        words += [f"--set recipe.{name}={value}" for name, value in self.recipe_fields.items()]
        return " ".join(words + [f"--dial {name}={value}" for name, value in self.dials.items()])


NO_CHANGES = Changes()

ELSEWHERE = {"weights": "--weights", "street": "--street", "method_options": "--set KEY=VALUE"}
"""Fields of a recipe that a job states apart from it, and the option that changes each."""


@dataclass(frozen=True, eq=False)
class Job:
    """One row on one data set at one scale.

    Attributes:
        paper: key of the paper.
        table: the first table that prints the row; ``prose`` for a row that none prints.
        row: the row's label.
        dataset: key of the data set, ``"crosswalk"``, or for example ``"crosswalk/mars"``.
        scale: ``"paper"`` or ``"proxy"``.
        method: name in the method registry.
        options: what the spec states of the method's options; the rest are its defaults.
        recipe: how it is trained.
        weights: ``"imagenet"``, ``"none"``, ``"street"`` or a file.
        data: where the images come from, and the rules that its scores are by.
        beside: other protocols of the same release that the trained network is judged by, too.
        part: of the network's description, whose scores are the row's; empty for the whole.
        judge: by whose rules the row's scores are, where it is another protocol than the network is trained
            for.
        rerank: whether they are after re-ranking.
        trained_on: key of the data set that the network is trained on, where it is another one.
        pose_weights: file of the published pose network; empty where the recipe asks for none, or where
            none was given.
        starts_from: the jobs whose trained networks this one starts from: either that of the same row on
            another data set, or those of other rows on this one.
    """

    paper: str
    table: str
    row: str
    dataset: str
    scale: RunScale
    method: str
    options: dict[str, Any]
    recipe: Recipe
    weights: str
    data: Street | Release
    beside: tuple[Protocol, ...] = ()
    part: str = ""
    judge: Protocol | None = None
    rerank: bool = False
    trained_on: str = ""
    pose_weights: str = ""
    starts_from: tuple["Job", ...] = ()

    @property
    def name(self) -> str:
        """Table and row, as people look them up: ``table5/BL+DB+``."""
        return f"{self.table}/{self.row}"

    @property
    def network(self) -> "Job":
        """The same row on the data set that the network is trained on, under which it is recorded."""
        return replace(self, dataset=self.trained_on, trained_on="", judge=None) if self.trained_on else self

    @cached_property
    def key(self) -> ScoreKey:
        """Which of the network's scores are the row's."""
        if self.judge is None and not self.rerank:
            return ScoreKey(self.part)
        way = RERANKED if self.rerank else usual_way(self.recipe.sampler, self.recipe.ranking)
        protocol = self.judge or self.data.protocol
        rules = self.judge.fingerprint() if self.judge else ""
        return ScoreKey(self.part, score_name(protocol.name, self.part, way), rules)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the network, but the seed, and what every network is judged by.

        Neither the row's label nor which of the scores are its own: rows of one network share a hash, and
        one set of records serves them all.

        Raises ``WeightsError`` when the weights are a file that is not there.
        """
        identity = {
            "method": [self.method, METHODS.version(self.method)],
            "training": TRAINING_VERSION,
            "options": self.options,
            "recipe": self.recipe.stated(),
            "weights": self.pretraining.row_hash if self.pretraining else _weights_identity(self.weights),
            "protocol": _stated(self.data.protocol),
            "data": self.data.identity(),
            "scale": self.scale,
        }
        if self.beside:
            identity["beside"] = [_stated(one) for one in self.beside]
        if self.recipe.pose == "street":
            identity["pose"] = street_pose_identity(*self.pose_network)
        if self.starts_from:
            before = [one.row_hash for one in self.starts_from]
            identity["starts_from"] = before[0] if self.goes_on else before
        return identity

    @property
    def goes_on(self) -> bool:
        """Whether it goes on with the network of its own row, as it was trained on another data set."""
        return any(one.row == self.row for one in self.starts_from)

    @cached_property
    def pretraining(self) -> "Job | None":
        """The same network, to be trained to tell other people of the street apart; see ``Recipe.weights``.

        None where it starts from other weights.
        """
        if self.weights != STREET_WEIGHTS:
            return None
        recipe = Recipe.model_validate(self.recipe.model_dump() | PRETRAINING)
        people = Street(STREET_SIZE, STREET_SEED)
        return replace(self, recipe=recipe, weights="none", data=people, beside=(), part="", rerank=False)

    @property
    def all_before(self) -> "Iterator[Job]":
        """All jobs that it starts from, each after those that it starts from itself."""
        for one in self.starts_from:
            yield from one.all_before
            yield one

    @property
    def stage(self) -> int:
        """How many networks are trained one after the other before this one's."""
        return max((1 + one.stage for one in self.starts_from), default=0)

    @property
    def lacks_pose(self) -> bool:
        """Whether the recipe starts from a file of pose weights, and none was given."""
        return self.recipe.pose == "openpose" and not self.pose_weights

    def refuse_missing_pose(self) -> None:
        """Raise ``WeightsError`` when ``lacks_pose``, saying what to get."""
        if self.lacks_pose:
            raise WeightsError(
                f"{self.row} on {self.dataset} starts from OpenPose's published pose network, but no file of "
                "it was given; get body_pose_model.pth of Hzzone/pytorch-openpose, or the arrays of "
                "pose_iter_440000.caffemodel of CMU-Perceptual-Computing-Lab/openpose as .npz, and give "
                "--pose-weights FILE"
            )

    @property
    def pose_network(self) -> tuple[PoseNetwork, float, int, int]:
        """Name, factor on hidden widths and the images' height and width, for ``reproductions.pose_weights``.

        What the options do not state is the default of ``methods.pabr``.
        """
        name: PoseNetwork = self.options.get("pose", "openpose")
        return name, self.options.get("pose_width", 1.0), self.recipe.height, self.recipe.width

    @cached_property
    def row_hash(self) -> str:
        """12 hexadecimal digits of ``identity``."""
        text = json.dumps(self.identity, sort_keys=True)
        return sha256(text.encode()).hexdigest()[:12]


def make_job(
    paper: Paper,
    row: str,
    dataset: str,
    scale: RunScale,
    *,
    root: Path | None = None,
    changes: Changes = NO_CHANGES,
) -> Job:
    """Resolve a printed row at its scale's own recipe, or with ``changes``.

    On a data set whose rows are judged with networks of another one, that is the other one's job in all
    that decides the network, so that both have one hash, with other scores as its own.

    Options and fields of the recipe that ``changes`` names are this row's alone: rows that it starts from
    are as printed in those, and changed like it in everything else. Weights go the other way: a row that
    starts from others takes none itself, and a file of them is for those of its own backbone.

    Raises:
        UnknownName: no such row, street size, dial or field of a recipe, or no protocol for the data set.
        SpecError: a protocol beside the data set's reads another release; a row that this one starts from
            is trained on another street, or this one's recipe names weights beside it.
        RetableError: dials for real data, or outside 0..1; changes that leave no recipe.
    """
    if trained_on := paper.datasets.get(stands_for(dataset), Dataset()).trained_on:
        network_on = beside_it(dataset, trained_on)
        network = make_job(paper, row, network_on, scale, root=root, changes=changes)
        judge = _another_judge(paper, dataset, network.data.protocol)
        return replace(network, dataset=dataset, trained_on=network.dataset, judge=judge)
    known = _known_as(paper, dataset)
    dataset = STREET if known == STREET else dataset
    spec, recipe = paper.row(row), _recipe(paper, row, known, scale, changes)
    data: Street | Release
    if on_street(dataset):
        rules = paper.street.protocol if known == STREET else known
        layout = _layout(rules)
        size = layout_named(layout).size_named(changes.street or paper.recipe(scale, row, known).street).name
        data = Street(size, street_seed(layout), turned(changes.dials), rules, layout)
    else:
        _refuse_dials(changes.dials, dataset)
        data = Release(rules_of(dataset), root or Path())
    return Job(
        paper=paper.key,
        table=spec.tables[0] if spec.tables else "prose",
        row=row,
        dataset=dataset,
        scale=scale,
        method=spec.method,
        options=spec.options | spec.options_on.get(known, {}) | recipe.method_options | {**changes.options},
        recipe=recipe,
        weights=_weights(paper, row, recipe, changes),
        data=data,
        beside=_beside(paper, known, data.protocol),
        part=spec.part,
        rerank=spec.rerank,
        pose_weights=(changes.pose_weights or "") if recipe.pose == "openpose" else "",
        starts_from=_before(paper, row, dataset, data, scale, root, changes),
    )


def _before(
    paper: Paper,
    row: str,
    dataset: str,
    data: Street | Release,
    scale: RunScale,
    root: Path | None,
    changes: Changes,
) -> tuple[Job, ...]:
    """The jobs that a row's network on a data set starts from; see ``make_job`` for what it raises.

    Where that is the row's own network of another data set, it has what other rows gave it already.
    """
    known = _known_as(paper, dataset)
    if other := paper.datasets.get(known, Dataset()).starts_from:
        return (make_job(paper, row, beside_it(dataset, other), scale, root=root, changes=changes),)
    changes = replace(changes, options={}, recipe_fields={})
    others = replace(changes, weights=changes.weights if changes.weights in NAMED_WEIGHTS else None)
    before = []
    for label in paper.row(row).starts_from:
        backbones = {paper.recipe(changes.recipe or scale, one, known).backbone for one in (row, label)}
        given = changes if len(backbones) == 1 else others
        before.append(make_job(paper, label, dataset, scale, root=root, changes=given))
    for one in before:
        if one.data != data:
            raise SpecError(
                f"papers/{paper.key}/paper.toml: rows {row!r}, starts_from: found {one.row!r}, trained on "
                f"{one.data.identity()}; expected {data.identity()}, as recipe.{scale} of both rows decides"
            )
    return tuple(before)


def _weights(paper: Paper, row: str, recipe: Recipe, changes: Changes) -> str:
    """The weights that a row's own network takes; see ``make_job`` for what it raises."""
    if not paper.row(row).starts_from:
        return changes.weights or recipe.weights
    if recipe.weights != "none":
        raise SpecError(
            f"papers/{paper.key}/paper.toml: row {row!r}: found starts_from and weights = "
            f"{recipe.weights!r}; expected weights = 'none', as other rows' networks take their place"
        )
    return recipe.weights


def beside_it(dataset: str, other: str) -> str:
    """The key of another data set where this one is: of the street if it is the street's."""
    return f"{STREET}/{other}" if on_street(dataset) else other


def _known_as(paper: Paper, dataset: str) -> str:
    """The data set whose block in the paper's folder speaks for it; the plain street has none.

    ``crosswalk/market1501`` is the plain street for a paper that judges that one by ``market1501``.
    """
    known = stands_for(dataset)
    return STREET if on_street(dataset) and known == paper.street.protocol else known


def _layout(protocol: str) -> str:
    """As ``layout_of``. Raises ``UnknownName`` for a protocol without one."""
    if layout := layout_of(protocol):
        return layout
    raise UnknownName("street in the form of", protocol, filter(layout_of, PROTOCOLS.names()))


def _recipe(paper: Paper, row: str, dataset: str, scale: RunScale, changes: Changes) -> Recipe:
    """The row's recipe, changed; see ``make_job`` for what it raises."""
    recipe, fields = paper.recipe(changes.recipe or scale, row, dataset), dict(changes.recipe_fields)
    for name in fields:
        if name in ELSEWHERE:
            raise RetableError(f"--set recipe.{name}: expected {ELSEWHERE[name]}, which changes that")
        if name not in Recipe.model_fields:
            raise UnknownName("field of a recipe", name, Recipe.model_fields.keys() - ELSEWHERE.keys())
    if changes.precision:
        fields["precision"] = changes.precision
    try:
        return Recipe.model_validate(recipe.model_dump() | fields)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
    where = f"{paper.key}, row {row!r} on {dataset}: "
    if not first["loc"]:  # the values do not fit together
        given = " ".join(f"recipe.{name}={value}" for name, value in fields.items())
        raise RetableError(f"{where}--set {given}: {first['msg'].removeprefix('Value error, ')}")
    key, at = first["loc"][0], first["loc"][:2]  # a union has an error for each of its types
    expected = " or ".join(one["msg"] for one in (first, *others) if one["loc"][:2] == at)
    raise RetableError(f"{where}--set recipe.{key}: found {fields[str(key)]!r}, expected: {expected}")


def turned(dials: Mapping[str, Any]) -> Dials:
    """The street's dials with some of them turned.

    Raises ``UnknownName`` with near matches, and ``RetableError`` for what is no number in 0..1.
    """
    names = [one.name for one in fields(Dials)]
    for name, value in dials.items():
        if name not in names:
            raise UnknownName("dial", name, names)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RetableError(f"--dial {name}={value}: expected a number in 0..1, for example {name}=0.3")
    return replace(DIALS, **{name: float(value) for name, value in dials.items()})


def _refuse_dials(dials: Mapping[str, Any], dataset: str) -> None:
    if dials:
        raise RetableError(
            f"--dial {next(iter(dials))} with {dataset}: only the street has dials; use --scale proxy"
        )


def _beside(paper: Paper, dataset: str, judge: Protocol) -> tuple[Protocol, ...]:
    """The protocols beside the one that judges; all must read the release that the images come from."""
    if dataset == STREET:
        where, names = "street", paper.street.beside
    else:
        where, names = f"datasets {dataset!r}", paper.datasets.get(dataset, Dataset()).beside
    beside = tuple(map(rules_of, names))
    for one in beside:
        _refuse_another_release(paper, where, one, judge.folder)
    return beside


def _another_judge(paper: Paper, dataset: str, own: Protocol) -> Protocol:
    """The data set's protocol, for networks trained by ``own``; it must read the same release."""
    name = stands_for(dataset)
    judge = rules_of(name)
    if on_street(dataset):
        _layout(name)
    _refuse_another_release(paper, f"datasets {name!r}, trained_on", judge, own.folder)
    return judge


def _refuse_another_release(paper: Paper, where: str, protocol: Protocol, folder: str) -> None:
    if protocol.folder != folder:
        raise SpecError(
            f"papers/{paper.key}/paper.toml: {where}: found protocol {protocol.name!r}, which reads "
            f"{protocol.folder}; expected one that reads {folder}"
        )


def _stated(protocol: Protocol) -> list[str]:
    return [protocol.name, protocol.fingerprint()]


def _weights_identity(weights: str) -> str:
    if weights in NAMED_WEIGHTS:
        return weights
    try:
        with Path(weights).open("rb") as file:
            return "sha256:" + file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"--weights {weights}: {error.strerror}; give a file, 'imagenet', 'street' or 'none'"
        ) from error
