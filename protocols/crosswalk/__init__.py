"""The embedded street: rendered pedestrians before several cameras, in a data set's own layout, truth known.

Importing this package compiles and renders nothing.
"""

from protocols.crosswalk.cache import street
from protocols.crosswalk.dials import Dials
from protocols.crosswalk.errors import StreetError
from protocols.crosswalk.layouts import LAYOUTS, layout_named
from protocols.crosswalk.layouts.base import Layout
from protocols.crosswalk.layouts.market1501 import LAYOUT as MARKET1501
from protocols.crosswalk.layouts.market1501.sizes import SIZES, Size
from protocols.crosswalk.shots import Shot
from protocols.crosswalk.version import STREET_VERSION
from protocols.crosswalk.writing import write_street

plan = MARKET1501.plan
size_named = MARKET1501.size_named

__all__ = [
    "LAYOUTS",
    "SIZES",
    "STREET_VERSION",
    "Dials",
    "Layout",
    "Shot",
    "Size",
    "StreetError",
    "layout_named",
    "plan",
    "size_named",
    "street",
    "write_street",
]
