"""The embedded street: rendered pedestrians before several cameras, in a data set's own layout, truth known.

Importing this package compiles and renders nothing.
"""

from protocols.crosswalk.cache import street
from protocols.crosswalk.dials import Dials
from protocols.crosswalk.errors import StreetError
from protocols.crosswalk.market1501 import write_market1501
from protocols.crosswalk.shots import Shot, plan
from protocols.crosswalk.sizes import SIZES, Size, size_named
from protocols.crosswalk.version import STREET_VERSION

__all__ = [
    "SIZES",
    "STREET_VERSION",
    "Dials",
    "Shot",
    "Size",
    "StreetError",
    "plan",
    "size_named",
    "street",
    "write_market1501",
]
