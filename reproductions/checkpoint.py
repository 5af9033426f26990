"""The state after a finished epoch, in one file that is whole or absent."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from retable.errors import RetableError
from retable.files import write_atomically


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that the next epoch needs; randomness is a function of seed and epoch.

    Attributes:
        identity: hash of the row and seed that this training belongs to.
        epoch: epochs finished.
        model: the method's ``state_dict``.
        optimizer: the optimizer's ``state_dict``.
        history: one entry per finished epoch.
        untrained: metrics before the first epoch.
        untrained_parts: the same of each part of the description, by name.
    """

    identity: str
    epoch: int
    model: dict[str, Any]
    optimizer: dict[str, Any]
    history: list[dict[str, float]]
    untrained: dict[str, float]
    untrained_parts: dict[str, dict[str, float]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Replace ``path``. Raises ``RetableError`` if the disk refuses; the old file then stays."""
        buffer = io.BytesIO()
        fields = {name: getattr(self, name) for name in self.__slots__}
        torch.save(fields, buffer)
        try:
            write_atomically(path, lambda file: file.write(buffer.getbuffer()))
        except OSError as error:
            raise RetableError(
                f"{path}: cannot write the checkpoint of epoch {self.epoch} ({error.strerror}); "
                "the previous one is intact. Make room and run the same command: it resumes there"
            ) from error

    @classmethod
    def load(cls, path: Path, identity: str) -> "Checkpoint | None":
        """The checkpoint of this very training, or None if there is none.

        Raises ``RetableError`` when the file is damaged or of another training.
        """
        if not path.exists():
            return None
        try:
            fields = torch.load(path, map_location="cpu", weights_only=True)
            checkpoint = cls(**fields)
        except Exception as error:  # torch.load raises many kinds on damaged files
            raise RetableError(
                f"{path}: not a readable checkpoint ({type(error).__name__}); delete it or pass --fresh"
            ) from error
        if checkpoint.identity != identity:
            raise RetableError(
                f"{path}: belongs to {checkpoint.identity}, expected {identity}; delete it or pass --fresh"
            )
        return checkpoint
