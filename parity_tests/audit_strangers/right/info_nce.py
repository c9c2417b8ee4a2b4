import numpy as np


def _normalize(x):
    n = np.linalg.norm(x, axis=1, keepdims=True)
    return x / n, n


def _normalize_back(dz, z, n):
    return (dz - z * (dz * z).sum(1, keepdims=True)) / n


def _ce_rows(S):
    S = S - S.max(1, keepdims=True)
    logp = S - np.log(np.exp(S).sum(1, keepdims=True))
    N = len(S)
    return -np.trace(logp) / N, (np.exp(logp) - np.eye(N)) / N


def info_nce_loss(a: np.ndarray, b: np.ndarray, tau: float = 0.1) -> tuple[float, np.ndarray, np.ndarray]:
    """Symmetric InfoNCE, as in CLIP: row i of `a` belongs to row i of `b`."""
    za, na = _normalize(a)
    zb, nb = _normalize(b)
    S = za @ zb.T / tau
    l1, d1 = _ce_rows(S)
    l2, d2 = _ce_rows(S.T)
    dS = 0.5 * (d1 + d2.T) / tau
    da = _normalize_back(dS @ zb, za, na)
    db = _normalize_back(dS.T @ za, zb, nb)
    return 0.5 * (l1 + l2), da, db
