import numpy as np


def log_softmax(x):
    c = x.max(axis=1, keepdims=True)
    return x - c - np.log(np.exp(x - c).sum(axis=1, keepdims=True))


def cross_entropy_loss(scores, labels):
    """
    scores: (N, C) unnormalised
    labels: (N, C) one-hot
    """
    lp = log_softmax(scores)
    loss = -np.mean(np.sum(labels * lp, axis=1))
    dscores = (np.exp(lp) - labels)
    return loss, dscores
