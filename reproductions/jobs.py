"""A job is one printed row made runnable: what is trained, on which data, judged by which rules."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from methods import METHODS
from protocols import PROTOCOLS, Protocol
from protocols.crosswalk import SIZES, STREET_VERSION, Dials, size_named, street
from protocols.files import locate_release
from reproductions.paper import Dataset, Paper, RunScale
from reproductions.recipe import TRAINING_VERSION, Recipe
from retable.errors import RetableError, SpecError, UnknownName, WeightsError
from retable.progress import progress_bar

STREET = "crosswalk"
"""The embedded street's key where data sets are named."""


DIALS = Dials()


@dataclass(frozen=True, slots=True)
class Street:
    """The embedded street, in the layout of Market-1501."""

    size: str = "default"
    seed: int = 0
    dials: Dials = DIALS
    judged_by: str = "market1501"

    @property
    def protocol(self) -> Protocol:
        """Whose rules it has; its layout is Market-1501's."""
        return PROTOCOLS.get(self.judged_by)()

    def identity(self) -> dict[str, Any]:
        """Everything that decides its bytes."""
        return {
            "street": STREET_VERSION,
            "size": asdict(SIZES[self.size]),
            "seed": self.seed,
            "dials": asdict(self.dials),
        }

    def folder(self, cache: Path, console: Console) -> Path:
        """Where it lies below ``cache``; rendered first if it is not there."""
        with progress_bar(console, "rendering the street") as bar:
            return street(cache, self.size, self.seed, self.dials, progress=bar.update)


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
        options: of the method, instead of the row's and the recipe's.
        recipe_fields: of the row's recipe, instead of its own.
        street: size of the embedded street, instead of the recipe's.
        dials: of the embedded street, instead of its defaults.
    """

    recipe: RunScale | None = None
    weights: str | None = None
    precision: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe_fields: Mapping[str, Any] = field(default_factory=dict)
    street: str | None = None
    dials: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """As on the command line, for example ``--precision fp32 --set slope=0.2``; empty without any."""
        named = ((name, getattr(self, name)) for name in ("recipe", "weights", "precision", "street"))
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
        dataset: key of the data set, or ``"crosswalk"``.
        scale: ``"paper"`` or ``"proxy"``.
        method: name in the method registry.
        options: what the spec states of the method's options; the rest are its defaults.
        recipe: how it is trained.
        weights: ``"imagenet"``, ``"none"`` or a file.
        data: where the images come from, and the rules that its scores are by.
        beside: other protocols of the same release that the trained network is judged by, too.
        part: of the network's description, whose scores are the row's; empty for the whole.
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

    @property
    def name(self) -> str:
        """Table and row, as people look them up: ``table5/BL+DB+``."""
        return f"{self.table}/{self.row}"

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the numbers of this job but the seed: no label of the row, and no part.

        So rows of one network share a hash, and one set of records serves them all.

        Raises ``WeightsError`` when the weights are a file that is not there.
        """
        identity = {
            "method": [self.method, METHODS.version(self.method)],
            "training": TRAINING_VERSION,
            "options": self.options,
            "recipe": self.recipe.stated(),
            "weights": _weights_identity(self.weights),
            "protocol": _stated(self.data.protocol),
            "data": self.data.identity(),
            "scale": self.scale,
        }
        return identity | ({"beside": [_stated(one) for one in self.beside]} if self.beside else {})

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

    Raises:
        UnknownName: no such row, street size, dial or field of a recipe, or no protocol for the data set.
        SpecError: a protocol beside the data set's reads another release.
        RetableError: dials for real data, or outside 0..1; changes that leave no recipe.
    """
    spec, recipe = paper.row(row), _recipe(paper, row, dataset, scale, changes)
    data: Street | Release
    if dataset == STREET:
        size = size_named(changes.street or paper.recipe(scale, row, dataset).street).name
        data = Street(size, dials=turned(changes.dials), judged_by=paper.street.protocol)
    else:
        _refuse_dials(changes.dials, dataset)
        data = Release(PROTOCOLS.get(dataset)(), root or Path())
    return Job(
        paper=paper.key,
        table=spec.tables[0] if spec.tables else "prose",
        row=row,
        dataset=dataset,
        scale=scale,
        method=spec.method,
        options=spec.options | spec.options_on.get(dataset, {}) | recipe.method_options | {**changes.options},
        recipe=recipe,
        weights=changes.weights or recipe.weights,
        data=data,
        beside=_beside(paper, dataset, data.protocol),
        part=spec.part,
    )


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
        where, names, folder = "street", paper.street.beside, Street().protocol.folder
    else:
        known = paper.datasets.get(dataset, Dataset())
        where, names, folder = f"datasets {dataset!r}", known.beside, judge.folder
    beside = tuple(PROTOCOLS.get(name)() for name in names)
    for one in (judge, *beside):
        if one.folder != folder:
            raise SpecError(
                f"papers/{paper.key}/paper.toml: {where}: found protocol {one.name!r}, which reads "
                f"{one.folder}; expected one that reads {folder}"
            )
    return beside


def _stated(protocol: Protocol) -> list[str]:
    return [protocol.name, protocol.fingerprint()]


def _weights_identity(weights: str) -> str:
    if weights in ("imagenet", "none"):
        return weights
    try:
        with Path(weights).open("rb") as file:
            return "sha256:" + file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(
            f"--weights {weights}: {error.strerror}; give a file, 'imagenet' or 'none'"
        ) from error
