"""The same models under every divergence: how low-dimensional, and how Euclidean?

python examples/geometry/divergences.py
"""

from digits_ensemble import from_command_line

import inpca

METRICS = (
    "bhattacharyya",
    "jeffreys",
    "chernoff:0.2",
    "hellinger2",
    "geodesic",
    "geodesic2",
    "jensen-shannon",
    "euclidean",
)


def main() -> None:
    ensemble = from_command_line(__doc__)
    print(f"{'':16}three dimensions explain  time-like of 10")
    for metric in METRICS:
        embedding = inpca.InPCA(10, metric=metric).fit(ensemble)
        stress, negative = embedding.explained_stress_[2], (embedding.signature_ < 0).sum()
        print(f"{metric:16}{stress:>24.1%}  {negative}")


if __name__ == "__main__":
    main()
