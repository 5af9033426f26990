"""What a method is judged on: files on disk -> split -> evaluation rules -> metrics."""

from protocols.base import PROTOCOLS, Counts, Protocol, Record, Rules, Split

__all__ = ["PROTOCOLS", "Counts", "Protocol", "Record", "Rules", "Split"]
