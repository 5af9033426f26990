"""OpenPose's published COCO weights, from a file that a user has, under the names of ``methods.openpose``.

Names are of two kinds: ``conv1_1.weight``, as in the file that PyTorch ports share (body_pose_model.pth of
Hzzone/pytorch-openpose), and, in the state dict of that port's module, ``model0.conv1_1.weight``. The Caffe
model itself (pose_iter_440000.caffemodel) is read by Caffe only, where its blobs are saved under the first::

    net = caffe.Net("pose_deploy_linevec.prototxt", "pose_iter_440000.caffemodel", caffe.TEST)
    blobs = {f"{layer}.weight": blob[0].data for layer, blob in net.params.items()}
    blobs |= {f"{layer}.bias": blob[1].data for layer, blob in net.params.items()}
    numpy.savez("pose_iter_440000.npz", **blobs)

Files have six stages, of which PABR needs two.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from methods.backbones import read_state
from methods.openpose import OpenPose
from retable.errors import WeightsError

_PART = re.compile(r"model(0|[1-6]_[12])\.")
_LATER_STAGE = re.compile(r"Mconv[1-7]_stage[3-6]_L[12]\.(weight|bias)")


def read_openpose(path: Path) -> dict[str, Tensor]:
    """The weights of ``OpenPose()`` in a torch, ``.safetensors`` or ``.npz`` file.

    Raises ``WeightsError`` when the file cannot be read, or has not the published model's names and shapes.
    """
    found = {_PART.sub("", name, count=1): tensor for name, tensor in _read(path).items()}
    found = {name: tensor for name, tensor in found.items() if not _LATER_STAGE.fullmatch(name)}
    with torch.device("meta"):
        expected = OpenPose().state_dict()
    places = {".".join(key.split(".")[-2:]): key for key in expected}
    missing = [name for name in places if name not in found]
    unknown = [name for name in found if name not in places]
    reshaped = [
        f"{name} of shape {tuple(found[name].shape)} instead of {tuple(expected[key].shape)}"
        for name, key in places.items()
        if name in found and found[name].shape != expected[key].shape
    ]
    for complaint, names in (("lacks", missing), ("has the unknown", unknown), ("has", reshaped)):
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise WeightsError(
                f"{path} {complaint} {names[0]}{more}; expected the layers of OpenPose's COCO model, "
                "pose_iter_440000"
            )
    return {key: found[name].float() for name, key in places.items()}


def _read(path: Path) -> Mapping[str, Tensor]:
    """The arrays of a file by name; raises ``WeightsError``."""
    if path.suffix == ".caffemodel":
        raise WeightsError(
            f"{path}: a Caffe model, which only Caffe reads; expected .npz, .pth or .safetensors. Save its "
            "blobs as .npz as methods/openpose_weights.py shows, or take body_pose_model.pth"
        )
    if path.suffix != ".npz" or not path.is_file():
        return read_state(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except Exception as error:  # a damaged archive can raise nearly anything
        raise WeightsError(f"cannot read weights file {path}: {error}") from error
