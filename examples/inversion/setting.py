"""What the parts of the example share: the networks, and the list of claims."""

from collections.abc import Sequence

from collectors.zoo.full_batch import Stack


class Claims:
    """What is claimed, what was measured, and whether it holds."""

    def __init__(self) -> None:
        self.failed = 0

    def check(self, claim: str, measured: str, holds: bool) -> None:
        self.failed += not holds
        print(f"  {'ok  ' if holds else 'FAIL'} {claim:<62} {measured}")


def network(seeds: Sequence[int], depth: int = 2, width: int = 20) -> Stack:
    """Networks for digits of 8 × 8 pixels, even or odd; `depth` counts layers with weights."""
    return Stack(seeds, n_inputs=64, n_classes=2, width=width, depth=depth)
