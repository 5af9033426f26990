"""Recorded facts: one JSON file a seed, written whole or not at all."""

import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from reproductions.places import PROJECT
from reproductions.recipe import way_name
from retable.errors import RetableError
from retable.files import write_atomically

UNSAFE = re.compile(r'[/\\:*?"<>|]')
"""Characters that some file system refuses in a name."""

CODE = ("retable", "methods", "protocols", "reproductions", "pyproject.toml", "uv.lock")


class Provenance(BaseModel):
    """Where a record comes from.

    ``dirty`` tells of uncommitted changes in what decides a number, the code and its lock file;
    ``split`` holds a digest of each image list; ``versions`` of what computed the numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    commit: str | None
    dirty: bool | None
    started: str
    device: str
    python: str
    versions: dict[str, str]
    split: dict[str, str]


class SeedRecord(BaseModel):
    """One seed of one row on one data set at one scale; metrics in percent.

    ``identity`` is everything that decides the numbers and ``row_hash`` its digest; ``options`` the
    method's options with all defaults; ``untrained`` are the metrics of the same network before its
    first step; ``bounds`` the worst and best value of metrics that depend on the order of equal
    distances; ``parts`` the metrics of each part of the description, ranked alone, by name, and
    ``untrained_parts`` before the first step; ``beside`` what other rankings of the same network and other
    protocols give, by name, for example ``"market1501 top-75"`` or, of a part, ``"market1501/x global"``:
    never compared with printed values.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    paper: str
    table: str
    row: str
    dataset: str
    scale: Literal["paper", "proxy"]
    seed: int
    row_hash: str
    identity: dict[str, Any]
    options: dict[str, Any]
    headline: str
    metrics: dict[str, float]
    bounds: dict[str, tuple[float, float]]
    parts: dict[str, dict[str, float]] = {}
    beside: dict[str, dict[str, float]] = {}
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

    def has(self, part: str) -> bool:
        """Whether this part of the description was ranked; the whole, ``""``, always was."""
        return not part or part in self.parts

    def scores(self, part: str = "") -> dict[str, float]:
        """The metrics of a part of the description, or of the whole."""
        return self.parts[part] if part else self.metrics

    def untrained_scores(self, part: str = "") -> dict[str, float]:
        """The same before the first step."""
        return self.untrained_parts[part] if part else self.untrained

    def scores_beside(self, part: str = "") -> dict[str, dict[str, float]]:
        """Of ``beside``, what is of a part of the description, or of the whole."""
        ends = {
            name: next((one for one in self.parts if name.endswith(f" {one}")), "") for name in self.beside
        }
        return {name: metrics for name, metrics in self.beside.items() if ends[name] == part}

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


def judged_by(identity: Mapping[str, Any], part: str = "") -> str:
    """The protocol of a row's scores and, where pairs are scored, how: ``market1501/openreid top-75``.

    Of a part of the description it says so: ``market1501, part global``.
    """
    recipe, protocol = identity["recipe"], str(identity["protocol"][0])
    if part:
        return f"{protocol}, part {part}"
    if recipe.get("sampler") != "pairs":
        return protocol
    return f"{protocol} {way_name(recipe.get('ranking', ['all'])[0])}"


def by_row_hash(records: Iterable[SeedRecord]) -> dict[str, dict[int, SeedRecord]]:
    """``{row_hash: {seed: record}}``, seeds in rising order."""
    groups: dict[str, dict[int, SeedRecord]] = {}
    for record in sorted(records, key=lambda record: record.seed):
        groups.setdefault(record.row_hash, {})[record.seed] = record
    return groups


def serving(part: str, records: Mapping[int, SeedRecord]) -> dict[int, SeedRecord]:
    """Those of some seeds' records that hold scores of this part of the description."""
    return {seed: record for seed, record in records.items() if record.has(part)}


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


def provenance(started: float, device: str, split: dict[str, str]) -> Provenance:
    """Commit, versions and machine of the running program; ``started`` in seconds since 1970."""
    return Provenance(
        commit=commit(),
        dirty=dirty(),
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
        device=device,
        python=platform.python_version(),
        versions=dict(_versions(("torch", "torchvision", "timm", "numpy", "numba", "accelerate", "pillow"))),
        split=split,
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
