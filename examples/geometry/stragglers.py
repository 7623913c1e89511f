"""Which samples bend the manifold?

python examples/geometry/stragglers.py

Every eigenvalue of InPCA is a sum over samples. The samples that are learnt last are few, and are
asked here for their share of each coordinate, and for the manifold that they make by themselves.
"""

import numpy as np
from digits_ensemble import distances_of, from_command_line

import inpca
from inpca.geometry.attribution import attribution
from inpca.geometry.learning import learning_table
from inpca.geometry.split import split_embedding


def main() -> None:
    ensemble = from_command_line(__doc__)
    distances = distances_of(ensemble)
    embedding = inpca.InPCA(5).fit(distances)

    # When is each sample learnt for good? Never counts as last.
    learnt = learning_table(ensemble)
    when = learnt.fillna(1.0).mean(axis=1).to_numpy()
    late = when >= np.quantile(when, 0.9)
    print(f"{late.sum()} of {len(late)} samples are learnt after progress {when[late].min():.2f}")

    found = attribution(ensemble, embedding)
    print("their share of each coordinate, beside that of as many average samples:")
    print(found.compare(late).round(3))

    view = ensemble.with_references().select(list(embedding.models_.index))
    split = split_embedding(view, distances, late, n_components=3)
    print("explained pairwise distances of the late samples alone, and of the rest alone:")
    print(split.explained.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
