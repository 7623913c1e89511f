"""Do different networks learn along the same path?

python examples/geometry/trajectories.py

Trainings are compared at equal progress (Eq. 5), so that a fast and a slow one on the same path are
at distance zero. The tree and the importance say what makes paths differ: the seed does not.
"""

from digits_ensemble import from_command_line
from scipy.cluster.hierarchy import leaves_list

import inpca


def main() -> None:
    ensemble = from_command_line(__doc__)

    distances = inpca.trajectory_distances(ensemble, 20)  # at 20 values of progress
    print(distances)
    names = distances.runs.index
    print("neighbours in the tree:", " ".join(names[leaves_list(distances.linkage())]))

    by_architecture = distances.grouped("architecture")
    print("mean distance between architectures, nats per sample:")
    print(by_architecture.integrated.round(4))
    print("between two seeds of one architecture:", by_architecture.spread.round(4))

    tubes = inpca.trajectories.tube_widths(ensemble, "architecture", 20)
    print("width of the tube of seeds, over progress:")
    for name, widths in zip(tubes.groups.index, tubes.widths):
        print(f"  {name}: {widths.mean():.4f} on average, at most {widths.max():.4f}")

    off = inpca.trajectories.distances_to_geodesic(ensemble, 20)
    print(f"from the geodesic: {off.integrated.mean():.3f} nats per sample on average")

    importance = inpca.trajectories.configuration_importance(
        distances, columns=["architecture", "seed"], n_repeats=20
    )
    print(importance.table)

    # A trajectory is a point in an embedding of its own.
    embedding = distances.embed(2)
    print("explained stress of the trajectories in 2 dimensions:", embedding.explained_stress_)


if __name__ == "__main__":
    main()
