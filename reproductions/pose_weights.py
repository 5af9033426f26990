"""Weights of a pose network that was trained on the street, kept in the cache.

torch is imported where a network is trained.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console

from reproductions.places import cache
from reproductions.pose_recipe import POSE_RECIPE, POSE_VERSION, PoseNetwork, digest

WEIGHTS, SCORES = "weights.safetensors", "scores.json"


def street_pose_identity(network: PoseNetwork, width: float, height: int, width_px: int) -> dict[str, Any]:
    """Everything that decides the weights; see ``street_pose_weights`` for the arguments."""
    return {
        "pose": POSE_VERSION,
        "network": network,
        "width": width,
        "image": [height, width_px],
        "people": POSE_RECIPE.people(),
        "recipe": asdict(POSE_RECIPE),
    }


def street_pose_weights(
    network: PoseNetwork, width: float, height: int, width_px: int, device: str, console: Console
) -> Path:
    """The safetensors file of the network's state, trained now if it is not in the cache.

    Beside it lies ``scores.json``, a ``pose_record.PoseRecord``: what the network finds of people whom it
    has not seen. An interrupted training leaves nothing. Whoever asks while another process trains the
    same network waits for it. The caller's random numbers stay as they are.

    Args:
        network: ``"openpose"`` or ``"r-cpm"``.
        width: factor on the network's hidden widths.
        height: of the images, pixels.
        width_px: of the images, pixels.
        device: ``"cpu"`` or ``"cuda"``, where it is trained if need be.
        console: where progress is shown.

    Raises ``RetableError`` when the loss is no longer finite.
    """
    identity = street_pose_identity(network, width, height, width_px)
    folder = cache() / "pose" / digest(identity)
    folder.parent.mkdir(parents=True, exist_ok=True)
    weights = folder / WEIGHTS
    with FileLock(f"{folder}.lock"):
        if not weights.is_file():
            from reproductions.pose_training import train_street_pose

            train_street_pose(weights, folder / SCORES, identity, POSE_RECIPE, device, console)
    return weights
