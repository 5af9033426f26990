"""Splits that a release does not state: drawn by a rule, written to a file, shared between labs.

``python -m protocols.splits NAME --data-root DIR [-o FILE]`` writes the file.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from protocols.base import PROTOCOLS, Split
from protocols.files import locate, read
from retable.cli import DONE, execute
from retable.errors import DataError, some
from retable.files import write_atomically

Item = int | str
T = TypeVar("T", int, str)

FOLDER = "splits"
"""Below a release's folder; holds ``<protocol>.json`` where splits have been recorded."""


def shuffled(items: Iterable[T], *names: str) -> list[T]:
    """A random order that depends on nothing but the items and the names.

    Items are sorted by the SHA-256 of the names and the item, a line each. No generator's stream can
    change it, and an item more or less leaves the order of all others as it is.

    Args:
        items: integers, or strings without line breaks; each once, in any order.
        names: what is drawn, for example a protocol and a split.
    """
    start = hashlib.sha256("".join(f"{name}\n" for name in names).encode())

    def key(item: T) -> bytes:
        sha = start.copy()
        sha.update(f"{item}\n".encode())
        return sha.digest()

    return sorted(items, key=key)


@dataclass(frozen=True, slots=True)
class Drawing:
    """What chance decides in a protocol: which items of a release are in which part of each split.

    Attributes:
        protocol: name of the protocol.
        rule: how it was drawn, in words.
        items: what was drawn from, as the release names it: identities or file names.
        splits: for each split by name, its parts and their items in ascending order.
    """

    protocol: str
    rule: str
    items: Collection[Item]
    splits: Mapping[str, Mapping[str, tuple[Item, ...]]]

    def digest(self) -> str:
        """SHA-256 over everything but ``items``, 64 hexadecimal digits."""
        return _digest({"protocol": self.protocol, "rule": self.rule, "splits": self.splits})


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def draw_pids(protocol: str, pids: Iterable[int], test_pids: int, splits: int = 10) -> Drawing:
    """Identities to test on, ``test_pids`` in each split; all others are trained on.

    The splits are called ``"0"``, ``"1"``, ...; their parts are ``"train"`` and ``"test"``.
    """
    everybody = sorted(set(pids))
    drawn = {}
    for name in map(str, range(splits)):
        order = shuffled(everybody, protocol, name)
        drawn[name] = {"train": tuple(sorted(order[test_pids:])), "test": tuple(sorted(order[:test_pids]))}
    rule = "identities by the SHA-256 of protocol, split and identity, a line each; the first are tested on"
    return Drawing(protocol, rule, everybody, drawn)


@dataclass(frozen=True)
class DrawnSplits:
    """The ``load`` of a protocol whose splits are drawn.

    Where the release's folder holds ``splits/<protocol>.json``, those splits are used; else they are
    drawn in memory, with the same outcome unless somebody else's file was put there.

    Attributes:
        draw: draws from the release at a folder.
        arrange: (folder, drawing) -> the lists of every split.
    """

    draw: Callable[[Path], Drawing]
    arrange: Callable[[Path, Drawing], tuple[Split, ...]]

    def __call__(self, root: Path) -> tuple[Split, ...]:
        """The splits of the release at ``root``; raises ``DataError``."""
        return self.arrange(root, self.drawing(root))

    def drawing(self, root: Path) -> Drawing:
        """As recorded at ``root``, or drawn; raises ``DataError`` for a record that does not fit."""
        drawn = self.draw(root)
        file = recorded_at(root, drawn.protocol)
        return read_drawing(file, drawn) if file.exists() else drawn


def recorded_at(root: Path, protocol: str) -> Path:
    """Where the splits of a protocol are recorded, below the release's folder."""
    return root / FOLDER / f"{protocol}.json"


def write_drawing(file: Path, drawing: Drawing) -> None:
    """Record ``drawing`` with its digest, as JSON; the file is whole or not there."""
    content = {"protocol": drawing.protocol, "rule": drawing.rule, "splits": drawing.splits}
    text = json.dumps(content | {"sha256": drawing.digest()}, indent=1) + "\n"
    write_atomically(file, lambda out: out.write(text.encode()))


def read_drawing(file: Path, drawn: Drawing) -> Drawing:
    """What is recorded in ``file``, in place of ``drawn``.

    Raises ``DataError`` for a file that is damaged or was edited, and for splits of another protocol,
    of another shape or of other items.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        stated = content.pop("sha256")
        splits = {
            name: {part: tuple(items) for part, items in parts.items()}
            for name, parts in content["splits"].items()
        }
        recorded = Drawing(content["protocol"], content["rule"], drawn.items, splits)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file}: not a file of splits ({error!r}); {_remedy(drawn)}") from error
    if _digest(content) != stated:
        raise DataError(
            f"{file}: edited or damaged: its content has the SHA-256 {_digest(content)}, expected {stated} "
            f"as it says itself; {_remedy(drawn)}"
        )
    _refuse_misfit(file, recorded, drawn)
    return recorded


def _refuse_misfit(file: Path, recorded: Drawing, drawn: Drawing) -> None:
    if recorded.protocol != drawn.protocol:
        raise DataError(f"{file}: splits of {recorded.protocol}, expected {drawn.protocol}; {_remedy(drawn)}")
    if _sizes(recorded) != _sizes(drawn):
        raise DataError(
            f"{file}: found splits of {_described(recorded)}, expected {_described(drawn)}; {_remedy(drawn)}"
        )
    known = set(drawn.items)
    for name, parts in recorded.splits.items():
        items = [item for part in parts.values() for item in part]
        strange = [item for item in items if item not in known]
        if strange:
            raise DataError(
                f"{file}: split {name!r} names {len(strange):,} items that are not in this copy of the "
                f"data set ({some(strange)}); {_remedy(drawn)}"
            )
        if len(set(items)) != len(items):
            raise DataError(f"{file}: split {name!r} names an item twice; {_remedy(drawn)}")


def _sizes(drawing: Drawing) -> dict[str, dict[str, int]]:
    return {
        name: {part: len(items) for part, items in parts.items()} for name, parts in drawing.splits.items()
    }


def _described(drawing: Drawing) -> str:
    """Sizes of the parts, each kind of split once, for example ``10 x (train 316, test 316)``."""
    kinds = [", ".join(f"{part} {n:,}" for part, n in parts.items()) for parts in _sizes(drawing).values()]
    return " + ".join(f"{kinds.count(kind)} x ({kind})" for kind in dict.fromkeys(kinds))


def _remedy(drawn: Drawing) -> str:
    return f"restore the file, or remove it and run python -m protocols.splits {drawn.protocol}"


def main(
    name: Annotated[str, typer.Argument(help="Protocol with drawn splits.")],
    data_root: Annotated[
        Path, typer.Option(envvar="REID_DATA", help="Folder of data sets, each named as it unpacks.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; default: where it is looked for.")
    ] = None,
) -> int:
    """Write the splits of a protocol whose release states none, so that others can use the same.

    Put the file below their folder of the data set as splits/NAME.json; it is used from then on.
    """
    protocol = PROTOCOLS.get(name)()
    if not isinstance(protocol.load, DrawnSplits):
        raise DataError(f"{name}: nothing to draw, the release of {protocol.title} states its split")
    root = locate(protocol, data_root)
    read(protocol, root)  # what is drawn from a damaged copy is of no use to anybody
    drawing = protocol.load.drawing(root)
    file = output or recorded_at(root, name)
    write_drawing(file, drawing)
    typer.echo(f"{file}: {_described(drawing)}, SHA-256 {drawing.digest()}")
    return DONE


if __name__ == "__main__":
    from protocols.splits import main as command  # in the module whose DrawnSplits the protocols hold

    execute(command)
