"""Pruning by S(t) for many t, noisy test images, sizes of the training set (Fig. 2b-d, 3b)."""

from pathlib import Path

import numpy as np
from inversion.figures import draw
from inversion.setting import Claims, network

import inpca
from collectors.zoo.full_batch import standardised
from collectors.zoo.inversion_dynamics import OBSERVABLES, follow
from inpca import inversion as inv
from inpca.plotting import inversion as plots

LEVELS = np.array([0.3, 0.2, 0.15, 0.12, 0.1, 0.08, 0.06, 0.05, 0.04, 0.03, 0.02, 0.01])
SIGMAS = (0.0, 0.5, 1.0, 1.5)
SIZES = (400, 500, 650, 850, 1100, 1400, 1797)


def levels_and_sizes(
    path: Path, images: np.ndarray, y: np.ndarray, seeds: int, epochs: int, claims: Claims
) -> None:
    """Measure, check and draw into `path` what depends on S(t) and on the size P."""
    order = np.random.default_rng(1).permutation(len(y))
    train, test = order[:1297], order[1297:]
    x, x_test = (standardised(images[part], images[train]) for part in (train, test))
    n_seeds = min(seeds, max(3, seeds // 4))
    start = follow(network(range(seeds)), x, y[train], epochs=epochs)
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
            after = follow(stack, x, y[train], epochs=epochs, kept=~left_out,
                           record=[epochs])  # fmt: skip
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
    fractions = np.array([fraction_of(images, y, size, n_seeds, epochs) for size in SIZES])
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

    draw(path, 4, panels)


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
