"""Training of pose networks on a street whose joints are known."""

import math
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import save as to_safetensors
from torch import Tensor
from torch.nn import functional as F

from methods.openpose import POSE_NETWORKS, OpenPose
from protocols.crosswalk.truth import JOINTS
from reproductions.augment import normalise
from reproductions.execute import device_name
from reproductions.pose_evaluation import joint_maps_of, mean_places, pck, places_of
from reproductions.pose_people import People, people
from reproductions.pose_recipe import PoseNetwork, PoseRecipe, digest
from reproductions.pose_record import MEASURES, PoseRecord, Scores
from reproductions.pose_targets import PoseTargets, mirrored, pose_targets
from reproductions.records import provenance
from retable.errors import RetableError
from retable.files import write_atomically
from retable.progress import progress_bar

WARM_UP = 0.1
"""Share of the steps in which the learning rate rises."""


def train_street_pose(
    weights: Path,
    scores: Path,
    identity: Mapping[str, Any],
    recipe: PoseRecipe,
    device: str,
    console: Console,
) -> None:
    """Train the network of an identity (``pose_weights``); write its ``PoseRecord``, last its weights.

    Raises ``RetableError`` when the loss is no longer finite.
    """
    started = time.time()
    height, width = identity["image"]
    learnt, tested = people(recipe, height, width, console)
    network = first_network(identity["network"], identity["width"], recipe.seed).to(device)
    untrained = judged(network, tested)
    clock = time.perf_counter()
    name, total = identity["network"], recipe.epochs * len(learnt.images)
    with progress_bar(console, f"training {name} on poses", total) as bar:
        loss = train_pose(network, learnt, recipe, bar.advance)
    seconds = time.perf_counter() - clock
    PoseRecord(
        digest=digest(identity),
        identity=dict(identity),
        trained=judged(network, tested),
        untrained=untrained,
        mean_place=_by_joint(mean_places(learnt.joints).expand(len(tested.joints), -1, -1), tested),
        loss=loss,
        train_seconds=seconds,
        provenance=provenance(
            started,
            device_name(torch.device(device)),
            {"train": _digest_of(learnt), "test": _digest_of(tested)},
        ),
    ).save(scores)
    state = {name: tensor.contiguous().cpu() for name, tensor in network.state_dict().items()}
    write_atomically(weights, lambda file: file.write(to_safetensors(state)))


def first_network(name: PoseNetwork, width: float, seed: int) -> OpenPose:
    """The network before its first step; the caller's random numbers stay as they are."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return POSE_NETWORKS[name](width)


def judged(network: OpenPose, tested: People) -> Scores:
    """PCK of what a network finds, by measure and joint."""
    return _by_joint(places_of(joint_maps_of(network, tested.images)), tested)


def _by_joint(found: Tensor, tested: People) -> Scores:
    scores = pck(found, tested.joints)
    return {
        measure: {
            joint: None if math.isnan(value) else round(value, 2)
            for joint, value in zip(JOINTS, getattr(scores, measure).tolist(), strict=True)
        }
        for measure in MEASURES
    }


def _digest_of(some: People) -> str:
    return sha256(some.images.numpy().tobytes() + some.joints.numpy().tobytes()).hexdigest()[:16]


def pose_loss(stages: list[tuple[Tensor, Tensor]], targets: PoseTargets) -> Tensor:
    """The sum over stages t of f_L^t + f_S^t (eq. 3-5 of Cao et al., CVPR 2017), of the mean image.

    f_S^t is the sum of |S_j^t(p) - S_j*(p)|^2 over joints j and cells p; f_L^t is that of the limbs' fields.
    Both know the whole image, so the weights W(p) of eq. 3 and 4 are 1.

    Args:
        stages: limb and joint maps of each stage.
        targets: what they should be.
    """
    total = sum(
        F.mse_loss(limbs, targets.limbs, reduction="sum")
        + F.mse_loss(joints, targets.joints, reduction="sum")
        for limbs, joints in stages
    )
    return torch.as_tensor(total) / len(targets.joints)


def train_pose(
    network: OpenPose, learnt: People, recipe: PoseRecipe, progress: Callable[[int], None] = lambda _: None
) -> float:
    """Train in place on the device where ``network`` is; returns the last epoch's mean loss.

    Raises ``RetableError`` when the loss is no longer finite.
    """
    device = next(network.parameters()).device
    network.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.rate)
    steps = recipe.epochs * math.ceil(len(learnt.images) / recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_rate(step, steps))
    generator = torch.Generator().manual_seed(recipe.seed)
    mean = math.nan
    for epoch in range(1, recipe.epochs + 1):
        total = torch.zeros((), device=device)
        for places in torch.split(torch.randperm(len(learnt.images), generator=generator), recipe.batch):
            images, joints = _flipped(learnt, places, recipe.flip, generator)
            images, joints = images.to(device), joints.to(device)
            stages = network.stages(normalise(images))
            h, w = stages[0][1].shape[-2:]
            loss = pose_loss(stages, pose_targets(joints, (h, w), recipe.sigma, recipe.limb_width))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += len(places) * loss.detach()
            progress(len(places))
        mean = float(total) / len(learnt.images)
        if not math.isfinite(mean):
            raise RetableError(
                f"pose training, epoch {epoch}: the loss is {mean}; it diverged, lower its rate"
            )
    return mean


def share_of_rate(step: int, steps: int) -> float:
    """Of the greatest learning rate at a step counted from 0: a line up, then half a cosine to 0."""
    rising = math.ceil(WARM_UP * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _flipped(
    learnt: People, places: Tensor, probability: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Some images and their joints, each mirrored with the given probability."""
    images, joints = learnt.images[places], learnt.joints[places]
    flip = torch.rand(len(places), generator=generator) < probability
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    return images, torch.where(flip[:, None, None], mirrored(joints, images.shape[-1]), joints)
