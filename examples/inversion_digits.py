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
from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import inpca
from collectors.zoo.full_batch import Stack, standardised
from collectors.zoo.inversion_dynamics import OBSERVABLES, Dynamics, at_inversion, follow
from inpca import inversion as inv
from inpca.plotting import inversion as plots

LEVELS = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01])
SIGMAS = (0.0, 0.5, 1.0, 1.5)
SIZES = (400, 500, 650, 850, 1100, 1400, 1797)


class Claims:
    """What is claimed, what was measured, and whether it holds."""

    def __init__(self) -> None:
        self.failed = 0

    def check(self, claim: str, measured: str, holds: bool) -> None:
        self.failed += not holds
        print(f"  {'ok  ' if holds else 'FAIL'} {claim:<62} {measured}")


def network(seeds: range, depth: int = 2) -> Stack:
    return Stack(seeds, n_inputs=64, n_classes=2, depth=depth)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("inversion_digits"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=600)
    parser.add_argument("--quick", action="store_true", help="leave out pruning levels and sizes")
    args = parser.parse_args()
    begun = time.perf_counter()
    if (args.output / "digits.ensemble").exists():
        shutil.rmtree(args.output / "digits.ensemble")
    args.output.mkdir(parents=True, exist_ok=True)

    images, digits = load_digits(return_X_y=True)
    x, y = standardised(images), (digits % 2 == 0).astype(np.int64)
    seeds, claims = range(args.seeds), Claims()

    def train(**options: object) -> Dynamics:
        return follow(network(seeds), x, options.pop("labels", y), epochs=args.epochs, **options)

    print(f"{len(x)} digits, {args.seeds} seeds, {args.epochs} epochs")
    whole = train(keep_logits=True)
    masks = check_inversion(whole, claims)
    check_conservation(masks, x, y, args, claims)
    rng = np.random.default_rng(0)
    pruned = {
        "without stragglers": train(kept=~masks),
        "without as many at random": train(kept=~rng.permuted(masks, axis=1)),
    }
    check_pruning(whole, pruned, claims)
    shuffled = train(labels=np.array([inv.random_labels(y, seed) for seed in seeds]))
    check_random_labels(shuffled, claims)

    ensemble = inpca.create_ensemble(
        args.output / "digits.ensemble", sample_sets={"train": y}, n_classes=2
    )
    whole.save(ensemble, "mlp-2-20", {"architecture": "mlp 2/20", "lr": 0.2, "layer": "hidden"})
    draw(args.output / "dynamics.png", 3, lambda axes: draw_dynamics(axes, whole, shuffled))
    draw(args.output / "pruning.png", 2, lambda axes: draw_pruning(axes, whole, pruned))
    if not args.quick:
        levels_and_sizes(images, y, args, claims)
    print(f"{time.perf_counter() - begun:.0f} s; figures and digits.ensemble are in {args.output}")
    return min(claims.failed, 1)


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
        if name == "without stragglers":
            claims.check(f"rise / fall {name} ≤ 5 %", measured, shares.max() <= 0.05)
        else:
            claims.check(f"rise / fall {name} ≥ 20 %", measured, shares.min() >= 0.2)


def check_random_labels(shuffled: Dynamics, claims: Claims) -> None:
    points = [one.points["centre_distance"] for one in shuffled.inversions()]
    shares = [point.rise_share for point in points]
    claims.check("with random labels no centre distance inverts (way back > 5 %)",
                 f"it gives back {max(shares):.1%} at most",
                 not any(point.found for point in points))  # fmt: skip


# -- pruning levels, noise, training-set sizes -----------------------------------------------------


def levels_and_sizes(
    images: np.ndarray, y: np.ndarray, args: argparse.Namespace, claims: Claims
) -> None:
    order = np.random.default_rng(1).permutation(len(y))
    train, test = order[:1297], order[1297:]
    x, x_test = (standardised(images[part], images[train]) for part in (train, test))
    n_seeds = min(args.seeds, max(3, args.seeds // 4))
    start = follow(network(range(args.seeds)), x, y[train], epochs=args.epochs)
    found = [one.phi for one in start.inversions() if one.found]
    phi = (min(found), max(found))
    z, ends = [], {name: [] for name in OBSERVABLES}
    tests: dict[str, list[np.ndarray]] = {}
    rng = np.random.default_rng(2)
    for level in LEVELS:
        times = [inv.checkpoint_at_error(error, level) for error in start.train_error]
        sets = np.array([wrong[t] for wrong, t in zip(start.wrong, times)])
        z.append(inv.conservation(sets).z)
        sets = sets[:n_seeds]
        for kind, left_out in (("S(t)", sets), ("random", rng.permuted(sets, axis=1))):
            stack = network(range(n_seeds))
            after = follow(stack, x, y[train], epochs=args.epochs, kept=~left_out,
                           record=[args.epochs])  # fmt: skip
            for sigma in SIGMAS if kind == "S(t)" else SIGMAS[:1]:
                noisy = inv.noisy_inputs(x_test, sigma, seed=3)
                wrong = inv.stragglers(stack.logits(noisy), y[test]).mean(axis=1)
                tests.setdefault(f"without {kind}, noise {sigma:g}", []).append(wrong)
            if kind == "S(t)":
                for name in OBSERVABLES:
                    ends[name].append(after.observables[name][:, -1])
    errors = {name: np.array(values).T for name, values in tests.items()}
    worse = errors["without S(t), noise 0"].mean() - errors["without random, noise 0"].mean()
    claims.check("leaving out S(t) costs more test error than others (> 0)",
                 f"{100 * worse:+.1f} points on average", worse > 0)  # fmt: skip
    print(f"       stragglers are most conserved at ε_tr = {LEVELS[np.argmax(z)]:g}, "
          f"z = {max(z):.0f}; φ = {np.mean(found):.3f}")  # fmt: skip
    fractions = np.array([fraction_of(images, y, size, n_seeds, args.epochs) for size in SIZES])
    limit = limit_of(fractions)

    def panels(axes: list) -> None:
        plots.plot_levels(LEVELS, {n: np.array(v).T for n, v in ends.items()}, phi=phi,
                          ylabel="at the end of training", ax=axes[0])  # fmt: skip
        plots.plot_levels(LEVELS, errors, phi=phi, ylabel="test error", ax=axes[1])
        plots.plot_levels(LEVELS, {"conservation": z}, phi=phi, ylabel="z-score", ax=axes[2])
        plots.plot_fraction_limit(SIZES, {"digits": fractions.T}, limit, ax=axes[3])
        titles = ("manifolds, trained without S(t)", "test error, trained without S(t)",
                  "conservation of S(t) between seeds", "fraction of stragglers")  # fmt: skip
        for ax, title in zip(axes, titles):
            ax.set_title(title)

    draw(args.output / "levels.png", 4, panels)


def fraction_of(images: np.ndarray, y: np.ndarray, size: int, n_seeds: int, epochs: int) -> list:
    """φ of `n_seeds` networks, each on a random part of the digits; NaN without inversion."""
    fractions = []
    for seed in range(n_seeds):
        part = np.random.default_rng(100 + seed).permutation(len(y))[:size]
        one = follow(network(range(seed, seed + 1)), standardised(images[part]), y[part],
                     epochs=epochs)  # fmt: skip
        fractions.append(one.inversions()[0].phi)
    return fractions


def limit_of(fractions: np.ndarray) -> dict[str, inv.FractionLimit]:
    """The limit of φ, (n_sizes, n_seeds), over the sizes at which every network inverts."""
    sizes = [f"{size} ({np.isfinite(row).sum()} of {len(row)} invert)"
             for size, row in zip(SIZES, fractions) if np.isnan(row).any()]  # fmt: skip
    if sizes:
        print(f"       left out of the limit: P = {', '.join(sizes)}")
    rows = np.isfinite(fractions).all(axis=1)
    mean = fractions[rows].mean(axis=1)
    error = fractions[rows].std(axis=1, ddof=1) / np.sqrt(fractions.shape[1])
    print(f"       φ at P = {', '.join(map(str, np.array(SIZES)[rows]))}: "
          + ", ".join(f"{value:.3f}" for value in mean))  # fmt: skip
    try:
        limit = inv.fraction_limit(np.array(SIZES)[rows], mean, error)
    except inpca.InputError as problem:
        print(f"       no limit of φ: {problem}")
        return {}
    print(f"       φ_∞ = {limit.phi:.3f} ± {limit.phi_error:.3f}")
    return {"digits": limit}


# -- figures --------------------------------------------------------------------------------------


def draw(path: Path, n_panels: int, panels: Callable[[list], None]) -> None:
    columns = min(n_panels, 2 if n_panels == 4 else 3)
    rows = -(-n_panels // columns)
    figure = Figure(figsize=(5.2 * columns, 4 * rows), layout="constrained")
    panels(list(figure.subplots(rows, columns, squeeze=False).ravel()))
    figure.savefig(path, dpi=150)


def draw_dynamics(axes: list, whole: Dynamics, shuffled: Dynamics) -> None:
    epochs = [one.epoch for run in whole.inversions() for one in run.points.values()]
    phi = [run.phi for run in whole.inversions()]
    curves = whole.observables
    plots.plot_epochs(whole.epochs, curves, inversion=(min(epochs), max(epochs)), ax=axes[0])
    plots.plot_against_error(whole.train_error, curves, phi=(min(phi), max(phi)), ax=axes[1])
    plots.plot_epochs(shuffled.epochs, shuffled.observables, ax=axes[2])
    for ax, title in zip(axes, ("dynamics", "against the training error", "random labels")):
        ax.set_title(title)


def draw_pruning(axes: list, whole: Dynamics, pruned: dict[str, Dynamics]) -> None:
    kinds = {"all samples": whole, **pruned}
    for ax, name in zip(axes, ("radius_plus", "centre_distance")):
        curves = {kind: dynamics.observables[name] for kind, dynamics in kinds.items()}
        plots.plot_epochs(whole.epochs, curves, ax=ax)
        ax.set_ylabel(plots.NAMES[name])
        ax.set_title("radius" if name == "radius_plus" else "distance of the centres")


if __name__ == "__main__":
    sys.exit(main())
