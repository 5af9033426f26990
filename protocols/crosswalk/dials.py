from dataclasses import dataclass, fields

from protocols.crosswalk.errors import StreetError


@dataclass(frozen=True, slots=True)
class Dials:
    """How hard the street is, cause by cause; each dial lies in 0..1. Raises ``StreetError`` outside.

    Attributes:
        misalignment: error of the detector's boxes. 0: every person is centred and whole; 1: boxes
            shift by up to a third of a body, and half of them cut feet or head off.
        occlusion: share of images with something or somebody in front of the person.
        viewpoint: spread of walking directions. 0: all are seen from the front; 1: from anywhere,
            with cameras that see people from opposite sides.
        camera_shift: how far cameras differ in colour response, exposure, sharpness and noise.
        confusers: share of identities that have a twin wearing all the same colours in other places.
    """

    misalignment: float = 0.2
    occlusion: float = 0.15
    viewpoint: float = 0.5
    camera_shift: float = 0.3
    confusers: float = 0.2

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 1:
                raise StreetError(f"dial {field.name} is {value}; it must lie in 0..1")
