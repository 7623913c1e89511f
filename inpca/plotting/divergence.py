"""What the divergence of an embedding is called in a picture, and the units of its distances."""

from typing import Any

from inpca.distance.divergences import get_divergence

_WORDS = {
    "bhattacharyya": "the Bhattacharyya distance",
    "jeffreys": "Jeffreys' divergence",
    "hellinger2": "the squared Hellinger distance",
    "geodesic": "the angle between the square roots of the probabilities",
    "geodesic2": "the squared angle between the square roots of the probabilities",
    "jensen-shannon": "the Jensen–Shannon divergence",
    "euclidean": "the squared Euclidean distance of the probabilities",
}
_FAMILIES = {"chernoff": "the Chernoff divergence", "renyi": "the Rényi divergence"}


def metric_of(embedding: Any) -> str | None:
    """The divergence of an embedding's distances; None where nobody knows."""
    metric = getattr(embedding, "metric_", None)
    return None if metric is None else str(metric)


def unit_of(metric: str | None) -> str:
    """Unit of a distance; nothing for a pure number, and where the divergence is not known.

    >>> unit_of("bhattacharyya"), unit_of("hellinger2"), unit_of(None)
    ('nats per sample', '', '')
    """
    unit = "" if metric is None else get_divergence(metric).unit
    return "" if unit == "1" else unit


def with_unit(words: str, metric: str | None) -> str:
    """Words on an axis of distances, with the unit if there is one.

    >>> with_unit("width", "jeffreys"), with_unit("width", "euclidean")
    ('width, nats per sample', 'width')
    """
    return ", ".join(filter(None, [words, unit_of(metric)]))


def divergence_words(metric: str | None) -> str:
    """What the distance between two models is, for people who read a page.

    >>> divergence_words("renyi:0.3")
    'the Rényi divergence of order 0.3, in nats per sample'
    """
    if metric is None:
        return "one that came as an array, of a divergence that is not recorded"
    family, _, order = metric.partition(":")
    words = f"{_FAMILIES[family]} of order {order}" if order else _WORDS.get(metric, metric)
    unit = unit_of(metric)
    return f"{words}, in {unit}" if unit else words
