"""Releases without content: loaders go by names alone."""


def write_empty(folder, names):
    """Make ``folder`` and empty files of these names, below folders of their own where they have a ``/``."""
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
