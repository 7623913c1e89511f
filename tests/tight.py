"""Memory so tight that a job falls into many blocks and slabs, on every machine."""

from inpca import ResourceError
from inpca.distance.planner import make_plan


def least_memory(shape, **options):
    """The least memory that `make_plan` accepts, to 2 %: panels differ between machines."""
    memory = 10**9
    while True:
        try:
            make_plan(shape, memory=int(memory / 1.02), **options)
        except ResourceError:
            return memory
        memory = int(memory / 1.02)
