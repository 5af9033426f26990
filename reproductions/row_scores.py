"""What the rows of one network ask for beyond the scores that every network has.

Those are other protocols of the same release, and re-ranking; see ``Job.key``.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from methods.base import EmbeddingMethod, Method, PairMethod
from protocols import Protocol
from protocols.results import Result
from reproductions.evaluation import Lists, refuse_lists
from reproductions.jobs import Job
from reproductions.recipe import way_name
from reproductions.records import Scoring, score_name, scoring
from retable.errors import SpecError


def other_judges(network: Iterable[Job]) -> tuple[Protocol, ...]:
    """The protocols that rows are judged by and not every network is, each once."""
    found: dict[str, Protocol] = {}
    for job in network:
        if job.judge and job.judge.name not in {one.name for one in (job.data.protocol, *job.beside)}:
            found.setdefault(job.judge.name, job.judge)
    return tuple(found.values())


def reranked_names(network: Iterable[Job]) -> list[str]:
    """What the re-ranked scores of rows are called."""
    return [job.key.beside for job in network if job.rerank]


def unasked_names(method: Method, network: Sequence[Job]) -> set[str]:
    """What the scores by ``other_judges`` would be called that no row asks for."""
    ways = map(way_name, network[0].recipe.ranking) if isinstance(method, PairMethod) else [""]
    names = {
        score_name(one.name, part, way)
        for one, part, way in product(other_judges(network), ("", *parts_of(method)), ways)
    }
    return names - {job.key.beside for job in network}


def scorings(
    network: Iterable[Job], results: Mapping[str, Result], started: float, device: str
) -> dict[str, Scoring]:
    """How those of some results came that are the scores of rows.

    Args:
        network: the rows.
        results: what was judged, by name.
        started: when, in seconds since 1970.
        device: where.
    """
    own = {job.key.beside: job.judge or job.data.protocol for job in network if job.key.beside}
    return {
        name: scoring(started, device, judge.fingerprint(), results[name].headline)
        for name, judge in own.items()
        if name in results
    }


def refuse_unscored(method: Method, network: Sequence[Job], lists: Sequence[Lists]) -> None:
    """Raise ``SpecError`` when a row asks for scores that the network cannot have.

    They are those of a part that its description does not have, after a re-ranking that its distance does not
    take, or by a protocol of several splits, which has not one score but many.
    """
    for job in network:
        refuse_unknown_part(method, job)
        split = {asked.protocol.name: asked.split for asked in lists}
        if job.judge and split[job.judge.name]:
            raise SpecError(
                f"{job.paper}, datasets {job.dataset!r}: found trained_on with {job.judge.name}, which has "
                "several splits; expected a protocol of one"
            )
    refuse_lists(method, lists, reranked_names(network))


def refuse_unknown_part(method: Method, job: Job) -> None:
    """Raise ``SpecError`` when the row is of a part that the network's description does not have."""
    parts = parts_of(method)
    if job.part and job.part not in parts:
        known = f"one of {', '.join(parts)}, or no part" if parts else "no part: only the whole is ranked"
        raise SpecError(
            f"{job.paper}, row {job.row!r} on {job.dataset}: found part {job.part!r} of {job.method}, with "
            f"its options; expected {known}"
        )


def parts_of(method: Method) -> list[str]:
    """Names of the parts of the network's description."""
    return list(method.parts) if isinstance(method, EmbeddingMethod) else []
