import numpy as np


def logsumexp(a, axis):
    m = a.max(axis=axis, keepdims=True)
    return (m + np.log(np.exp(a - m).sum(axis=axis, keepdims=True))).squeeze(axis)


def crf_nll(emissions, transitions, tags):
    """
    Negative log likelihood of a linear chain CRF for one sentence.

    emissions   (T, K)
    transitions (K, K), transitions[i, j] is the score of going from tag i to j
    tags        (T,)

    returns loss, (d_emissions, d_transitions)
    """
    T, K = emissions.shape
    alpha = np.zeros((T, K))
    alpha[0] = emissions[0]
    for t in range(1, T):
        alpha[t] = logsumexp(alpha[t - 1][:, None] + transitions, axis=0) + emissions[t]
    logZ = logsumexp(alpha[-1], axis=0)

    beta = np.zeros((T, K))
    for t in range(T - 2, -1, -1):
        beta[t] = logsumexp(transitions + (emissions[t + 1] + beta[t + 1])[None, :], axis=1)

    score = emissions[np.arange(T), tags].sum() + transitions[tags[:-1], tags[1:]].sum()

    d_em = np.exp(alpha + beta - logZ)
    d_tr = np.zeros_like(transitions)
    for t in range(1, T):
        d_tr += np.exp(alpha[t - 1][:, None] + transitions + (emissions[t] + beta[t])[None, :] - logZ)
    d_em[np.arange(T), tags] -= 1
    np.add.at(d_tr, (tags[:-1], tags[1:]), -1)
    return logZ - score, (d_em, d_tr)
