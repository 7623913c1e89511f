"""Slow, obvious float64 versions of what the package computes: the oracles of the tests.

Everything here follows the papers' formulas letter by letter and takes small arrays. Predictions
are log-probabilities (n_models, n_samples, n_classes) unless said otherwise.
"""

import math

import numpy as np
from scipy.optimize import minimize_scalar

FLOOR = 2.0**-62


def log_probs(probs):
    """ln p, −inf for 0."""
    with np.errstate(divide="ignore"):
        return np.log(np.asarray(probs, np.float64))


def ignorance(n_samples, n_classes):
    """Log-probabilities of 1/C everywhere, as one model (1, N, C)."""
    return np.full((1, n_samples, n_classes), -math.log(n_classes))


def truth(labels, n_classes):
    """Log-probabilities of the one-hot labels, as one model (1, N, C)."""
    return log_probs(np.eye(n_classes)[np.asarray(labels)][None])


def random_models(n_models, n_samples, n_classes, *, seed=0, sharpness=2.0):
    """Log-probabilities of random logits; sharper is more saturated."""
    logits = sharpness * np.random.default_rng(seed).normal(size=(n_models, n_samples, n_classes))
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def affinities(log_p, log_q, floor=0.0):
    """a_uv[n] = Σ_c √p_u[n,c] √p_v[n,c], shape (u, v, n)."""
    x = np.maximum(np.exp(0.5 * np.asarray(log_p, np.float64)), floor)
    y = np.maximum(np.exp(0.5 * np.asarray(log_q, np.float64)), floor)
    return np.einsum("unc,vnc->uvn", x, y)


def distance(log_p, log_q=None, floor=FLOOR):
    """D_uv = −(1/N) Σ_n ln a_uv[n] − (D_uu + D_vv)/2, Eq. 2 with the self-normalisation."""
    log_q = log_p if log_q is None else log_q
    d_u = np.array([_mean_log(u[None], u[None], floor)[0, 0] for u in log_p])
    d_v = np.array([_mean_log(v[None], v[None], floor)[0, 0] for v in log_q])
    return _mean_log(log_p, log_q, floor) - (d_u[:, None] + d_v[None, :]) / 2


def _mean_log(log_p, log_q, floor):
    return -np.log(affinities(log_p, log_q, floor)).mean(axis=-1)


def floored(log_p, log_q=None):
    """Contributions that the floor caps, pair by pair; pairs u < v if `log_q` is left out."""
    count = 0
    others = log_p if log_q is None else log_q
    for u, p in enumerate(log_p):
        for v, q in enumerate(others):
            if log_q is None and v <= u:
                continue
            count += sum(_is_floored(a, b) for a, b in zip(p, q))
    return count


def _is_floored(log_a, log_b):
    a, b = np.exp(0.5 * np.float64(log_a)), np.exp(0.5 * np.float64(log_b))
    both = (a > FLOOR) & (b > FLOOR)
    return a.min() <= FLOOR and b.min() <= FLOOR and (a * b)[both].sum() <= FLOOR


def centred(d):
    """W = −½ L D L, L = I − 11ᵀ/m (Eq. 6)."""
    m = len(d)
    centring = np.eye(m) - np.ones((m, m)) / m
    return -0.5 * centring @ d @ centring


def eigen(w):
    """Eigenvalues by decreasing magnitude, and eigenvectors as columns."""
    values, vectors = np.linalg.eigh(w)
    order = np.argsort(-np.abs(values), kind="stable")
    return values[order], vectors[:, order]


def embedding(d, n_components):
    """Coordinates U √|λ| (m, k), and the eigenvalues (m,); signs of columns are arbitrary."""
    values, vectors = eigen(centred(d))
    return vectors[:, :n_components] * np.sqrt(np.abs(values[:n_components])), values


def explained_stress(eigenvalues):
    """Eq. 8 as printed, for every number of kept components: 1 − Σ_{k>d} λ² / Σ λ²."""
    squares = np.asarray(eigenvalues) ** 2
    return np.array([1 - squares[d:].sum() / squares.sum() for d in range(1, len(squares) + 1)])


def explained_stress_root(eigenvalues):
    """1 − √(1 − Σ_{k≤d} λ² / ‖W‖_F²), as in the published figures."""
    return np.array([1 - math.sqrt(max(0.0, 1 - s)) for s in explained_stress(eigenvalues)])


def project(d_new, d, n_components):
    """Coordinates of new models from their distances to the old (Eq. 9, Gower centring)."""
    values, vectors = eigen(centred(d))
    r = d.mean(axis=1)
    w_new = -0.5 * (d_new - d_new.mean(axis=1, keepdims=True) - r[None, :] + r.mean())
    kept, u = values[:n_components], vectors[:, :n_components]
    return (w_new @ u) / (np.sign(kept) * np.sqrt(np.abs(kept)))


def geodesic(p, q, t):
    """Point t of the geodesic between two tables of probabilities (N, C) (Eq. 3)."""
    x, y = np.sqrt(p), np.sqrt(q)
    angle = np.arccos(np.clip((x * y).sum(axis=-1, keepdims=True), 0, 1))
    with np.errstate(invalid="ignore", divide="ignore"):
        root = (np.sin((1 - t) * angle) * x + np.sin(t * angle) * y) / np.sin(angle)
    return np.where(angle < 1e-9, x, root) ** 2


def progress(log_p, labels):
    """Position of the nearest point of the geodesic from ignorance to truth (Eq. 4), (m,)."""
    n_models, n_samples, n_classes = log_p.shape
    start = np.full((n_samples, n_classes), 1 / n_classes)
    end = np.eye(n_classes)[labels]

    def distance_to(s, x):
        overlap = (np.sqrt(geodesic(start, end, s)) * x).sum(axis=-1)
        return np.arccos(np.clip(overlap, 0, 1)).mean()

    out = np.empty(n_models)
    for u, model in enumerate(log_p):
        x = np.exp(0.5 * model)
        grid = np.linspace(0, 1, 201)
        best = grid[np.argmin([distance_to(s, x) for s in grid])]
        bounds = max(0.0, best - 0.005), min(1.0, best + 0.005)
        found = minimize_scalar(
            distance_to, bounds=bounds, args=(x,), method="bounded", options={"xatol": 1e-9}
        )
        out[u] = found.x
    return out


def weighted_embedding(d, weights, n_components):
    """Weighted InPCA by its definition: coordinates (m, k), and the eigenvalues of √w W₀ √w."""
    weights = np.asarray(weights, np.float64)
    centring = np.eye(len(d)) - weights[None, :] / weights.sum()
    w0 = -0.5 * centring @ d @ centring.T
    values, u = eigen(np.sqrt(weights)[:, None] * w0 * np.sqrt(weights)[None, :])
    kept = values[:n_components]
    v = w0 @ (np.sqrt(weights)[:, None] * u[:, :n_components]) / kept
    return v * np.sqrt(np.abs(kept)), values


def joint_embedding(d_other, d, n_components):
    """Eq. 10, its means as in Eq. 9 with Gower centring: the models by `d_other`, placed by `d`."""
    values, vectors = eigen(centred(d))
    r = d.mean(axis=1)
    w = -0.5 * (d_other - r[:, None] - r[None, :] + r.mean())
    kept = values[:n_components]
    return (w @ vectors[:, :n_components]) / (np.sign(kept) * np.sqrt(np.abs(kept)))


def class_manifolds(activations, labels):
    """Radii (Eq. 9, over pairs) and centre distances (Eq. 10) of unit-normalised activations."""
    units = [row / np.sqrt((row**2).sum()) for row in np.asarray(activations, np.float64)]
    classes = sorted(set(np.asarray(labels).tolist()))
    sets = [[x for x, label in zip(units, labels) if label == c] for c in classes]
    radius = [
        math.sqrt(sum(((x - y) ** 2).sum() for x in one for y in one) / (2 * len(one) ** 2))
        for one in sets
    ]
    centres = [sum(one) / len(one) for one in sets]
    distance = [[math.sqrt(((a - b) ** 2).sum()) for b in centres] for a in centres]
    return np.array(radius), np.array(distance)


def _each_pair(log_p, log_q, of_rows):
    """Mean over the samples of `of_rows(a, b)` (N,), a and b log-probabilities (N, C), (u, v)."""
    log_q = log_p if log_q is None else log_q
    pairs = [[of_rows(np.float64(a), np.float64(b)).mean() for b in log_q] for a in log_p]
    return np.array(pairs)


def jeffreys(log_p, log_q=None):
    """Mean of Σ_c (p − q)(ln p − ln q), ln p not less than 2 ln FLOOR."""

    def of_rows(a, b):
        a, b = np.maximum(a, 2 * math.log(FLOOR)), np.maximum(b, 2 * math.log(FLOOR))
        return ((np.exp(a) - np.exp(b)) * (a - b)).sum(axis=-1)

    return _each_pair(log_p, log_q, of_rows)


def one_sided(log_p, log_q=None):
    """Contributions to `jeffreys` with a class where one model alone is at the floor."""
    floor, count = 2 * math.log(FLOOR), 0
    others = log_p if log_q is None else log_q
    for u, a in enumerate(log_p):
        for v, b in enumerate(others):
            if log_q is not None or u < v:
                count += int(((a <= floor) != (b <= floor)).any(axis=-1).sum())
    return count


def hellinger2(log_p, log_q=None):
    """Mean of 1 − affinity, as ½ ‖√p − √q‖²."""
    return _each_pair(
        log_p, log_q, lambda a, b: ((np.exp(a / 2) - np.exp(b / 2)) ** 2).sum(axis=-1) / 2
    )


def geodesic_distance(log_p, log_q=None, power=1):
    """Mean of arccos(affinity)^power, as 2 arcsin(½ ‖√p − √q‖)."""

    def of_rows(a, b):
        chord = np.linalg.norm(np.exp(a / 2) - np.exp(b / 2), axis=-1)
        return (2 * np.arcsin(chord / 2)) ** power

    return _each_pair(log_p, log_q, of_rows)


def jensen_shannon(log_p, log_q=None):
    """Mean of ½ KL(p‖m) + ½ KL(q‖m), m = ½ (p + q), 0 ln 0 = 0."""

    def of_rows(a, b):
        mixture = np.logaddexp(a, b) - math.log(2)
        with np.errstate(invalid="ignore"):
            left, right = np.exp(a) * (a - mixture), np.exp(b) * (b - mixture)
        return (np.nan_to_num(left, nan=0.0) + np.nan_to_num(right, nan=0.0)).sum(axis=-1) / 2

    return _each_pair(log_p, log_q, of_rows)


def euclidean(log_p, log_q=None):
    """Mean of Σ_c (p − q)²."""
    return _each_pair(log_p, log_q, lambda a, b: ((np.exp(a) - np.exp(b)) ** 2).sum(axis=-1))


def chernoff(log_p, log_q=None, alpha=0.5):
    """−½ mean of ln Σ pᵃ q¹⁻ᵃ + ln Σ p¹⁻ᵃ qᵃ, powers not less than FLOOR, self-normalised."""

    def of_rows(a, b):
        total = 0.0
        for power in (alpha, 1 - alpha):
            x = np.maximum(np.exp(power * a), FLOOR)
            y = np.maximum(np.exp((1 - power) * b), FLOOR)
            total = total - np.log((x * y).sum(axis=-1)) / 2
        return total

    d = _each_pair(log_p, log_q, of_rows)
    d_u = np.array([of_rows(a, a).mean() for a in np.float64(log_p)])
    d_v = d_u if log_q is None else np.array([of_rows(b, b).mean() for b in np.float64(log_q)])
    return d - (d_u[:, None] + d_v[None, :]) / 2


DIVERGENCES = {
    "bhattacharyya": lambda p, q=None: distance(p, q),
    "jeffreys": jeffreys,
    "hellinger2": hellinger2,
    "geodesic": geodesic_distance,
    "geodesic2": lambda p, q=None: geodesic_distance(p, q, 2),
    "jensen-shannon": jensen_shannon,
    "euclidean": euclidean,
    "chernoff:0.3": lambda p, q=None: chernoff(p, q, 0.3),
    "renyi:0.8": lambda p, q=None: chernoff(p, q, 0.8) / 0.2,
}


def mean_of(log_p, how, weights):
    """Power means and the geometric mean of models, from probabilities, (N, C) of sum 1."""
    p, w = np.exp(np.float64(log_p)), np.asarray(weights)[:, None, None] / np.sum(weights)
    if how == "geometric":
        q = np.exp((w * np.log(p)).sum(axis=0))
    else:
        power = {"arithmetic": 1, "sqrt": 0.5, "harmonic": -1}[how]
        q = (w * p**power).sum(axis=0) ** (1 / power)
    return q / q.sum(axis=-1, keepdims=True)


def centroid_objective(log_p, how, weights, log_q):
    """What the centroid makes least in each sample, (N,): Σ w d_B(p, q), or Σ w J(p, q)."""
    p, q = np.exp(np.float64(log_p)), np.exp(np.float64(log_q))[None]
    w = np.asarray(weights)[:, None] / np.sum(weights)
    if how == "bhattacharyya":
        return -(w * np.log(np.sqrt(p * q).sum(axis=-1))).sum(axis=0)
    return (w * ((p - q) * (np.log(p) - np.log(q))).sum(axis=-1)).sum(axis=0)
