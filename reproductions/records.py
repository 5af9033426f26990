"""Recorded facts: one JSON file a seed, written whole or not at all."""

import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from reproductions.places import PROJECT
from reproductions.recipe import PAIRED, Way, way_name
from retable.errors import RetableError
from retable.files import write_atomically

UNSAFE = re.compile(r'[/\\:*?"<>|]')
"""Characters that some file system refuses in a name."""

RERANKED = "re-ranked"
"""The way of ranking that re-orders by k-reciprocal neighbours, where scores are named."""

CODE = ("retable", "methods", "protocols", "reproductions", "pyproject.toml", "uv.lock")


def score_name(protocol: str, part: str = "", way: str = "") -> str:
    """What scores are filed under: ``market1501/openreid top-75``, ``market1501 global re-ranked``."""
    return " ".join(filter(None, (protocol, part, way)))


@dataclass(frozen=True, slots=True)
class ScoreKey:
    """Which of a network's scores are a row's.

    Attributes:
        part: of the description; empty for the whole.
        beside: their name in ``SeedRecord.beside``; empty where they are by the protocol that the network
            was trained for, ranked in its usual way.
        rules: fingerprint of the protocol, where ``beside`` is by another one than that.
    """

    part: str = ""
    beside: str = ""
    rules: str = ""


WHOLE = ScoreKey()
"""The scores that every record has."""


class Provenance(BaseModel):
    """Where a record comes from.

    ``dirty`` tells of uncommitted changes in what decides a number, the code and its lock file;
    ``split`` holds a digest of each image list; ``versions`` of what computed the numbers; ``pose_weights``
    the SHA-256 of the file of pose weights that was given, empty where none was: it is no part of a row's
    hash, as the published weights are meant, and a reader can see whether these were.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    commit: str | None
    dirty: bool | None
    started: str
    device: str
    python: str
    versions: dict[str, str]
    split: dict[str, str]
    pose_weights: str = ""


class Scoring(BaseModel):
    """When, where and by what rules a network was judged for a row that is neither the whole's nor a part's.

    Attributes:
        rules: fingerprint of the protocol.
        headline: the key of the average precision that it prints as mAP.
        commit: of the code that judged, None outside a checkout.
        dirty: as in ``Provenance``.
        started: when.
        device: where.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: str
    headline: str
    commit: str | None
    dirty: bool | None
    started: str
    device: str


class SeedRecord(BaseModel):
    """One seed of one row on one data set at one scale; metrics in percent.

    ``split`` names the one that the seed was trained and tested on, where the protocol has several;
    ``identity`` is everything that decides the numbers and ``row_hash`` its digest; ``options`` the
    method's options with all defaults; ``untrained`` are the metrics of the same network before its
    first step; ``bounds`` the worst and best value of metrics that depend on the order of equal
    distances; ``parts`` the metrics of each part of the description, ranked alone, by name, and
    ``untrained_parts`` before the first step; ``beside`` what other rankings of the same network and other
    protocols give, by ``score_name``, for example ``"market1501 top-75"`` or, of a part, ``"market1501/x
    global"``; ``scorings`` tells how those of them came that are the scores of rows, see ``ScoreKey``. They
    may be added when the network has long been trained. The others are compared with nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    paper: str
    table: str
    row: str
    dataset: str
    scale: Literal["paper", "proxy"]
    seed: int
    split: str = ""
    row_hash: str
    identity: dict[str, Any]
    options: dict[str, Any]
    headline: str
    metrics: dict[str, float]
    bounds: dict[str, tuple[float, float]]
    parts: dict[str, dict[str, float]] = {}
    beside: dict[str, dict[str, float]] = {}
    scorings: dict[str, Scoring] = {}
    untrained: dict[str, float]
    untrained_parts: dict[str, dict[str, float]] = {}
    history: list[dict[str, float]]
    provenance: Provenance
    mlflow_run_id: str | None

    @model_validator(mode="after")
    def _same_parts(self) -> "SeedRecord":
        if self.parts.keys() != self.untrained_parts.keys():
            found, before = (", ".join(parts) or "none" for parts in (self.parts, self.untrained_parts))
            raise ValueError(f"found parts {found} and untrained_parts {before}, expected the same names")
        return self

    def has(self, key: ScoreKey) -> bool:
        """Whether these scores are here, by these rules; those of the whole, ``WHOLE``, always are."""
        if not key.beside:
            return not key.part or key.part in self.parts
        made = self.scorings.get(key.beside)
        return key.beside in self.beside and (made is None or key.rules in ("", made.rules))

    def scores(self, key: ScoreKey = WHOLE) -> dict[str, float]:
        """The metrics of these scores, which are here."""
        if key.beside:
            return self.beside[key.beside]
        return self.parts[key.part] if key.part else self.metrics

    def score(self, key: ScoreKey, metric: str) -> float:
        """One of them; what a paper prints as mAP is the headline average precision of their protocol."""
        made = self.scorings.get(key.beside)
        headline = made.headline if made else self.headline
        return self.scores(key)[headline if metric == "mAP" else metric]

    def untrained_scores(self, key: ScoreKey = WHOLE) -> dict[str, float]:
        """The same before the first step; nothing where that was not measured, as of all in ``beside``."""
        if key.beside:
            return {}
        return self.untrained_parts[key.part] if key.part else self.untrained

    def scores_beside(self, part: str = "") -> dict[str, dict[str, float]]:
        """Of ``beside``, what is of a part of the description, or of the whole."""
        return {name: metrics for name, metrics in self.beside.items() if self._part_of(name) == part}

    def _part_of(self, name: str) -> str:
        """The part of the description that a name of ``beside`` speaks of."""
        name = name.removesuffix(f" {RERANKED}")
        return next((part for part in self.parts if name.endswith(f" {part}")), "")

    def names(self) -> set[str]:
        """What all scores here are called, those of the whole and of its parts among them."""
        protocol = str(self.identity["protocol"][0])
        return {
            judged_by(self.identity),
            *(score_name(protocol, part) for part in self.parts),
            *self.beside,
        }

    def path(self, results: Path) -> Path:
        """Where this record belongs below ``results``."""
        name = UNSAFE.sub("-", f"{self.row}_{self.dataset}_{self.row_hash}")
        return results / self.paper / self.scale / name / f"seed-{self.seed}.json"

    def save(self, results: Path) -> Path:
        """Write the record in place of any other of this seed, under whatever label of its row.

        Raises ``RetableError`` if the disk refuses; old files then stay.
        """
        path = self.path(results)
        text = self.model_dump_json(indent=1) + "\n"
        try:
            write_atomically(path, lambda file: file.write(text.encode()))
        except OSError as error:
            raise RetableError(
                f"{path}: cannot write the record ({error.strerror}). The trained state is kept: make "
                "room and run the same command, which then only evaluates and records"
            ) from error
        for other in path.parent.parent.glob(f"*_{self.row_hash}/{path.name}"):
            if other != path:
                other.unlink()
                if not any(other.parent.iterdir()):
                    other.parent.rmdir()
        return path


def judged_by(identity: Mapping[str, Any], key: ScoreKey = WHOLE) -> str:
    """The protocol of a row's scores and, where pairs are scored, how: ``market1501/openreid top-75``.

    Of a part of the description it says so: ``market1501, part global``.
    """
    if key.beside:
        return key.beside
    recipe, protocol = identity["recipe"], str(identity["protocol"][0])
    if key.part:
        return f"{protocol}, part {key.part}"
    return score_name(protocol, way=usual_way(recipe.get("sampler"), recipe.get("ranking", ["all"])))


def usual_way(sampler: str | None, ranking: Sequence[Way]) -> str:
    """How a recipe ranks first; empty for methods that describe an image by one vector."""
    return way_name(ranking[0]) if sampler in PAIRED else ""


def by_row_hash(records: Iterable[SeedRecord]) -> dict[str, dict[int, SeedRecord]]:
    """``{row_hash: {seed: record}}``, seeds in rising order."""
    groups: dict[str, dict[int, SeedRecord]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        groups.setdefault(record.row_hash, {})[record.seed] = record
    return groups


def serving(key: ScoreKey, records: Mapping[int, SeedRecord]) -> dict[int, SeedRecord]:
    """Those of some seeds' records that hold these scores."""
    return {seed: record for seed, record in records.items() if record.has(key)}


def existing(results: Path) -> Path:
    """``results`` itself; raises ``RetableError`` when there is no such folder."""
    if not results.is_dir():
        raise RetableError(f"{results}: no such folder; --results names the folder of the records")
    return results


def load_records(results: Path, paper: str | None = None) -> list[SeedRecord]:
    """All records below ``results``, of one paper if given, sorted by path.

    Raises ``RetableError`` naming a file that is no record.
    """
    return [_load(path) for path in sorted(results.glob(f"{paper or '*'}/*/*/seed-*.json"))]


def _load(path: Path) -> SeedRecord:
    try:
        return SeedRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        what = f"{where}: {what}" if where else what
        raise RetableError(f"{path}: not a record of this version ({what}); delete it") from error


def provenance(started: float, device: str, split: dict[str, str], pose_weights: str = "") -> Provenance:
    """Commit, versions and machine of the running program, and what it was given.

    Args:
        started: seconds since 1970.
        device: what computed.
        split: a digest of each image list.
        pose_weights: the file of pose weights, empty without one.
    """
    return Provenance(
        commit=commit(),
        dirty=dirty(),
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        device=device,
        python=platform.python_version(),
        versions=dict(_versions(("torch", "torchvision", "timm", "numpy", "numba", "accelerate", "pillow"))),
        split=split,
        pose_weights=sha256(Path(pose_weights).read_bytes()).hexdigest() if pose_weights else "",
    )


def scoring(started: float, device: str, rules: str, headline: str) -> Scoring:
    """How scores of the running program came; ``started`` in seconds since 1970."""
    when = datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds")
    return Scoring(
        rules=rules, headline=headline, commit=commit(), dirty=dirty(), started=when, device=device
    )


def commit() -> str | None:
    """The checkout's commit, None outside one."""
    return _git("rev-parse", "HEAD")


def dirty() -> bool | None:
    """Whether code or lock file have uncommitted changes, None outside a checkout."""
    changed = _git("status", "--porcelain", "--", *CODE)
    return None if changed is None else bool(changed)


def _versions(packages: Iterable[str]) -> Iterable[tuple[str, str]]:
    for package in packages:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue


def _git(*arguments: str) -> str | None:
    """Output of a git command in the project, or None outside a checkout."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
