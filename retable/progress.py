"""Progress bars that count images: how many, how fast, how much longer."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class ImagesPerSecond(ProgressColumn):
    """The current speed of a bar."""

    def render(self, task: Task) -> Text:
        """For example ``1,234 images/s``; empty until a speed is known."""
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "")


class Bar:
    """One running bar."""

    def __init__(self, progress: Progress, description: str, total: int | None, done: int) -> None:
        self._progress = progress
        self._task = progress.add_task(description, total=total, completed=done)

    def advance(self, images: int) -> None:
        """Count ``images`` more."""
        self._progress.advance(self._task, images)

    def update(self, done: int, total: int) -> None:
        """Set both ends of the bar."""
        self._progress.update(self._task, completed=done, total=total)


@contextmanager
def progress_bar(
    console: Console, description: str, total: int | None = None, done: int = 0
) -> Iterator[Bar]:
    """A bar over ``total`` images, ``done`` of them done; it shows on a terminal, until left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        ImagesPerSecond(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress, description, total, done)
