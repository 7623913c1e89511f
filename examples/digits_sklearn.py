"""Record scikit-learn classifiers: a `partial_fit` loop, and forests fitted as a whole.

python examples/digits_sklearn.py --ensemble digits.ensemble
inpca info digits.ensemble
"""

import argparse

from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier

from collectors.schedule import every
from collectors.sklearn import record_estimator, record_partial_fit
from collectors.zoo.data import digits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ensemble", default="digits.ensemble")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()

    sets = {name: (split.x.reshape(-1, 64), split.y) for name, split in digits().items()}
    learners = {
        "sgd": SGDClassifier(loss="log_loss", alpha=0.01, random_state=args.seed),
        "mlp": MLPClassifier(64, random_state=args.seed),
    }
    for name, learner in learners.items():
        record_partial_fit(
            learner,
            args.ensemble,
            f"{name}-{args.seed}",
            sets,
            epochs=args.epochs,
            schedule=every(21),  # once an epoch
            random_state=args.seed,
        )
    for n_trees in (10, 100):
        forest = RandomForestClassifier(n_trees, min_samples_leaf=3, random_state=args.seed)
        forest.fit(*sets["train"])
        run = f"forest-{n_trees}-{args.seed}"
        record_estimator(forest, args.ensemble, run, sets, config={"n_trees": n_trees})
    print(f"{len(learners) + 2} runs in {args.ensemble}")


if __name__ == "__main__":
    main()
