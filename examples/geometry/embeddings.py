"""One set of models, several pictures: weighted, joint, from few samples, from four points.

python examples/geometry/embeddings.py
"""

import numpy as np
from digits_ensemble import distances_of, from_command_line

import inpca
from inpca.geometry.alignment import counterparts


def main() -> None:
    ensemble = from_command_line(__doc__)
    train, test = distances_of(ensemble, "train"), distances_of(ensemble, "test")
    embedding = inpca.InPCA(10).fit(train)
    print("signs of the coordinates:", embedding.signature_)
    explained = inpca.explained_pairwise_distances(
        train, embedding.embedding_, embedding.signature_
    )
    print("explained pairwise distances (Eq. 12), d = 1 … 10:", explained.round(3))

    # Weighted: the last checkpoints count ten times, the first ones are only projected.
    models = embedding.models_
    weights = np.where(models.index.isin(models.groupby("run").tail(1).index), 10.0, 1.0)
    weights[(models["checkpoint"] == 0) & (models["kind"] != "reference")] = 0.0
    weighted = inpca.InPCA(3).fit(train, weights=weights)
    print("weighted, explained stress:", weighted.explained_stress_.round(3))

    # Joint: test models in the coordinates of train (Eq. 10).
    joint = embedding.join("test", test)
    moved = np.linalg.norm(joint[:, :3] - embedding.embedding_[:, :3], axis=1)
    print(f"from train to test a model moves by {moved.mean():.3f} on average")

    # Few samples: how many are needed to explain the distances over all of them (Fig. 6B)?
    view = ensemble.with_references().select(list(models.index))
    table = inpca.explained_by_samples(
        view, train, [10, 100, 1000], n_components=3, sample_set="train"
    )
    print(table[table["d"] == 3].to_string(index=False))

    # Four points: ignorance, truth and two averages span nearly the same picture (Fig. 11).
    four = inpca.four_point(view, at=(0.3, 0.7), sigma=0.1)
    explained = inpca.explained_pairwise_distances(
        train, four.coordinates, four.embedding.signature_
    )
    print("four points, explained pairwise distances:", explained.round(3))
    # Space-like coordinates can only lie on space-like ones, time-like ones on time-like ones.
    mine, theirs = counterparts(four.embedding.signature_, embedding.signature_)
    aligned = inpca.align(
        four.coordinates[:, mine], embedding.embedding_[:, theirs], embedding.signature_[theirs]
    )
    print(f"aligned to coordinates {theirs + 1} of all models: RMSD {aligned.rmsd:.3f}")


if __name__ == "__main__":
    main()
