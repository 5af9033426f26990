"""Where the files of one seed lie below the cache."""

from dataclasses import dataclass
from pathlib import Path

from reproductions.places import cache


@dataclass(frozen=True, slots=True)
class Artefacts:
    """Files that belong to one finished seed: its weights, and the ranks of all true matches.

    The ranks are by the whole description, also where parts of it are ranked as well.
    """

    weights: Path
    ranks: Path


def run_folder(row_hash: str, seed: int) -> Path:
    """Where the checkpoint and the artefacts of one seed lie."""
    return cache() / "runs" / row_hash / f"seed-{seed}"


def artefacts(row_hash: str, seed: int) -> Artefacts:
    """The files of a finished seed; they exist until the cache is deleted."""
    folder = run_folder(row_hash, seed)
    return Artefacts(folder / "weights.safetensors", folder / "ranks.npz")


def checkpoint_file(row_hash: str, seed: int) -> Path:
    """The state after the last finished epoch; it exists until the seed is recorded."""
    return run_folder(row_hash, seed) / "checkpoint.pt"


def is_finished(row_hash: str, seed: int) -> bool:
    """Whether a seed was trained to its end, into whatever folder of records, and its weights are kept."""
    return artefacts(row_hash, seed).weights.is_file() and not checkpoint_file(row_hash, seed).exists()
