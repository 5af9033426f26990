from retable.errors import RetableError


class StreetError(RetableError):
    """A street that cannot be rendered as asked, or a target that must not be overwritten."""
