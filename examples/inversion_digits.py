"""Class manifolds of the digits segregate, then invert, because of a few stragglers.

python examples/inversion_digits.py                  # some minutes; its last line says how long
inpca inversion inversion_digits/digits.ensemble

Even against odd digits, a network of one hidden layer with 20 tanh units, full-batch gradient
descent: the experiment of Ciceri et al. (2024) on the 1,797 digits that scikit-learn brings.
Figures and an ensemble go into the folder; what the paper claims is checked, and a claim that
fails makes the exit code 1.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from inversion.architectures import architectures
from inversion.figures import FIGURES, draw, draw_before_after, draw_dynamics, draw_pruning
from inversion.levels import levels_and_sizes
from inversion.setting import Claims, network
from sklearn.datasets import load_digits

import inpca
from collectors.zoo.full_batch import standardised
from collectors.zoo.inversion_dynamics import OBSERVABLES, Dynamics, at_inversion, follow
from inpca import inversion as inv


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("inversion_digits"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument(
        "--architectures", type=int, default=3, metavar="SEEDS", help="seeds of each architecture"
    )
    parser.add_argument(
        "--quick", action="store_true", help="leave out levels, sizes, architectures"
    )
    args = parser.parse_args()
    begun = time.perf_counter()
    if (args.output / "digits.ensemble").exists():
        shutil.rmtree(args.output / "digits.ensemble")
    args.output.mkdir(parents=True, exist_ok=True)
    for name in FIGURES:
        (args.output / name).unlink(missing_ok=True)

    images, digits = load_digits(return_X_y=True)
    x, y = standardised(images), (digits % 2 == 0).astype(np.int64)
    claims = Claims()
    print(f"{len(x)} digits, {args.seeds} seeds, {args.epochs} epochs")
    dynamics_and_pruning(x, y, args, claims)
    if not args.quick:
        levels_and_sizes(args.output / "levels.png", images, y, args.seeds, args.epochs, claims)
        architectures(args.output / "architectures.png", x, y, args.architectures, args.epochs)
    print("figures, and what they are in the paper:")
    for name, figure in FIGURES.items():
        if (args.output / name).exists():
            print(f"  {args.output / name}  {figure}")
    print(f"{time.perf_counter() - begun:.0f} s; figures and digits.ensemble are in {args.output}")
    return min(claims.failed, 1)


def dynamics_and_pruning(
    x: np.ndarray, y: np.ndarray, args: argparse.Namespace, claims: Claims
) -> None:
    """Train on all samples, without some, and on random labels; check and draw it."""
    seeds = range(args.seeds)

    def train(labels: np.ndarray = y, **options: object) -> Dynamics:
        return follow(network(seeds), x, labels, epochs=args.epochs, **options)

    whole = train(keep_logits=True)
    check_before_after(whole, claims)
    masks = check_inversion(whole, claims)
    check_conservation(masks, x, y, args, claims)
    rng = np.random.default_rng(0)
    pruned = {
        "without S(t*), each run": train(kept=~masks),
        "without as many at random": train(kept=~rng.permuted(masks, axis=1)),
    }
    check_pruning(whole, pruned, claims)
    others = {}
    for factor in (0.5, 2.0):
        wrong, epochs = at_multiple(whole, factor)
        others[f"without S(t), t = {epochs}"] = train(kept=~wrong)
    tell_other_epochs(others)
    shuffled = train(labels=np.array([inv.random_labels(y, seed) for seed in seeds]))
    check_random_labels(shuffled, claims)

    ensemble = inpca.create_ensemble(
        args.output / "digits.ensemble", sample_sets={"train": y}, n_classes=2
    )
    whole.save(ensemble, "mlp-2-20", {"architecture": "mlp 2/20", "lr": 0.2, "layer": "hidden"})
    pictures = {
        "before_after.png": (2, lambda axes: draw_before_after(axes, whole)),
        "dynamics.png": (3, lambda axes: draw_dynamics(axes, whole, shuffled)),
        "pruning.png": (2, lambda axes: draw_pruning(axes, whole, pruned, others)),
    }
    for name, (n_panels, panels) in pictures.items():
        draw(args.output / name, n_panels, panels)


def at_multiple(whole: Dynamics, factor: float) -> tuple[np.ndarray, str]:
    """S(t) of each network at the recorded epoch nearest to `factor` t*, and these epochs."""
    masks, epochs = [], []
    for wrong, one in zip(whole.wrong, whole.inversions()):
        at = int(np.argmin(np.abs(whole.epochs - factor * one.epoch)))
        masks.append(wrong[at])
        epochs.append(whole.epochs[at])
    first, last = min(epochs), max(epochs)
    return np.array(masks), f"{first}" if first == last else f"{first} to {last}"


# -- the claims -----------------------------------------------------------------------------------


def check_inversion(whole: Dynamics, claims: Claims) -> np.ndarray:
    found = whole.inversions()
    turned = sum(one.found for one in found)
    claims.check("radii and distance are not monotone (every run)",
                 f"{turned} of {len(found)} runs invert",
                 turned == len(found))  # fmt: skip
    spread = float(np.median([one.spread for one in found]))
    claims.check("the three inversion epochs agree within 10 (median run)",
                 f"{spread:.0f} epochs, t* = {np.median([one.epoch for one in found]):.0f}",
                 spread <= 10)  # fmt: skip
    phi = np.array([one.phi for one in found])
    relative = phi.std(ddof=1) / phi.mean()
    claims.check("φ is stable over seeds (relative spread ≤ 10 %)",
                 f"φ = {phi.mean():.4f} ± {phi.std(ddof=1):.4f}, {relative:.1%}",
                 relative <= 0.10)  # fmt: skip
    return at_inversion(whole, found)


def check_before_after(whole: Dynamics, claims: Claims) -> None:
    curves = whole.observables
    ways = {name: curves[name][:, -1] - curves[name][:, 0] for name in OBSERVABLES}
    less = (ways["radius_plus"] < 0) & (ways["radius_minus"] < 0) & (ways["centre_distance"] > 0)
    changes = ", ".join(f"{curves[n][:, 0].mean():.2f} to {curves[n][:, -1].mean():.2f}"
                        for n in OBSERVABLES)  # fmt: skip
    claims.check("training leaves radii smaller, distance larger (every run)",
                 f"{less.sum()} of {len(less)} runs; {changes}",
                 less.all())  # fmt: skip


def check_conservation(
    masks: np.ndarray, x: np.ndarray, y: np.ndarray, args: argparse.Namespace, claims: Claims
) -> None:
    same = inv.conservation(masks)
    claims.check("stragglers overlap ≥ 75 % between seeds, by chance < 10 %",
                 f"{same.share:.1%}, by chance {same.null_share:.1%}, z = {same.z:.0f}",
                 same.share >= 0.75 and same.null_share < 0.1)  # fmt: skip
    deep = follow(network(range(len(masks)), depth=4), x, y, epochs=args.epochs)
    turned = [one for one in deep.inversions() if one.found]
    if turned:
        others = np.array([deep.wrong[k][one.index] for k, one in enumerate(deep.inversions())
                           if one.found])  # fmt: skip
        across = inv.conservation(masks, others)
        phi = np.mean([one.phi for one in turned])
        print(f"       4 layers: {len(turned)} runs invert, φ = {phi:.4f}; stragglers shared with "
              f"2 layers {across.share:.1%}, z = {across.z:.0f}")  # fmt: skip


def check_pruning(whole: Dynamics, pruned: dict[str, Dynamics], claims: Claims) -> None:
    kinds = {"with all samples": whole, **pruned}
    for name, dynamics in kinds.items():
        shares = np.array([[point.rise_share for point in one.points.values()]
                           for one in dynamics.inversions()])  # fmt: skip
        medians = ", ".join(f"{100 * v:.1f}" for v in np.median(shares, axis=0))
        measured = (f"median {medians} % ({' '.join(OBSERVABLES)}), "
                    f"{shares.min():.1%} to {shares.max():.1%}")  # fmt: skip
        if name == "without S(t*), each run":
            claims.check("rise / fall without stragglers ≤ 5 %", measured, shares.max() <= 0.05)
        else:
            claims.check(f"rise / fall {name} ≥ 20 %", measured, shares.min() >= 0.2)


def tell_other_epochs(others: dict[str, Dynamics]) -> None:
    for name, dynamics in others.items():
        found = dynamics.inversions()
        shares = np.array([[point.rise_share for point in one.points.values()] for one in found])
        print(f"       {name}: {sum(one.found for one in found)} of {len(found)} runs invert, "
              f"rise / fall {100 * np.median(shares):.1f} % (median)")  # fmt: skip


def check_random_labels(shuffled: Dynamics, claims: Claims) -> None:
    points = [one.points["centre_distance"] for one in shuffled.inversions()]
    shares = [point.rise_share for point in points]
    claims.check("with random labels no centre distance inverts (way back > 5 %)",
                 f"it gives back {max(shares):.1%} at most",
                 not any(point.found for point in points))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
