"""Record a plain training loop: the only lines about inpca are the recorder and `rec.step`.

python examples/digits_torch.py --seed 0 --ensemble digits.ensemble
inpca info digits.ensemble
"""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from collectors.torch import Recorder
from collectors.zoo.data import digits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ensemble", default="digits.ensemble")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=30)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    sets = {name: TensorDataset(*map(torch.from_numpy, split)) for name, split in digits().items()}
    batches = DataLoader(sets["train"], batch_size=64, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True)

    recorder = Recorder(
        args.ensemble,
        run=f"mlp-sgd-{args.seed}",
        config={"architecture": "mlp", "optimizer": "sgd", "lr": args.lr, "seed": args.seed},
        sample_sets={name: DataLoader(data, batch_size=256) for name, data in sets.items()},
        schedule="paper",
        batches_per_epoch=len(batches),
        epochs=args.epochs,
    )
    with recorder as rec:
        step = 0
        rec.step(model, step=0, epoch=0)
        for _ in range(args.epochs):
            for x, y in batches:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x), y).backward()
                optimizer.step()
                step += 1
                rec.step(model, step=step, epoch=step / len(batches))
    print(f"{rec.n_recorded} checkpoints of run {rec.run} in {args.ensemble}")


if __name__ == "__main__":
    main()
