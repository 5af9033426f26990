"""What is trained: one self-contained module a method, backbones from timm."""

from typing import TYPE_CHECKING

from retable.registry import Registry

if TYPE_CHECKING:
    from methods.base import Method

METHODS: "Registry[type[Method]]" = Registry("method", "methods", "METHODS")
