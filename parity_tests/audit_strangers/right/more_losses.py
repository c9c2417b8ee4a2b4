import numpy as np


def focal_loss(logits, y, gamma=2.0, alpha=0.25):
    """Binary focal loss (RetinaNet), y in {0, 1}. Sum over everything."""
    p = 1 / (1 + np.exp(-logits))
    pt = np.where(y == 1, p, 1 - p)
    at = np.where(y == 1, alpha, 1 - alpha)
    loss = np.sum(-at * (1 - pt) ** gamma * np.log(pt))
    dpt = -at * ((1 - pt) ** gamma / pt - gamma * (1 - pt) ** (gamma - 1) * np.log(pt))
    dlogits = dpt * pt * (1 - pt) * np.where(y == 1, 1, -1)
    return loss, dlogits


def squared_hinge_loss(scores, y):
    """y in {-1, +1}"""
    m = np.maximum(0, 1 - y * scores)
    return np.mean(m ** 2), -2 * y * m / scores.size


def dice_loss(pred, target, smooth=1.0):
    inter = np.sum(pred * target)
    total = np.sum(pred) + np.sum(target)
    dice = (2 * inter + smooth) / (total + smooth)
    dpred = -(2 * target - dice) / (total + smooth)
    return 1 - dice, dpred


def poisson_nll(log_rate, k):
    n = log_rate.shape[0]
    rate = np.exp(log_rate)
    return np.sum(rate - k * log_rate) / n, (rate - k) / n


def quantile_loss(pred, target, q=0.9):
    e = target - pred
    loss = np.mean(np.maximum(q * e, (q - 1) * e))
    dpred = np.where(e > 0, -q, 1 - q) / e.size
    return loss, dpred
