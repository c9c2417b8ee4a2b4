import numpy as np


def lse(v, axis=None):
    top = np.max(v, axis=axis, keepdims=True)
    s = top + np.log(np.sum(np.exp(v - top), axis=axis, keepdims=True))
    return np.squeeze(s, axis=axis)


def crf_loss(scores, trans, tags):
    """
    Linear chain CRF, a batch of sequences of one length.

    scores: (N, T, K)   trans: (K, K), from row to column   tags: (N, T)
    Returns the mean loss and a dictionary of gradients.
    """
    N, T, K = scores.shape
    rows = np.arange(N)

    fwd = [scores[:, 0]]
    for t in range(1, T):
        fwd.append(lse(fwd[-1][:, :, None] + trans, axis=1) + scores[:, t])
    bwd = [np.zeros((N, K))]
    for t in range(T - 1, 0, -1):
        bwd.insert(0, lse(trans + (scores[:, t] + bwd[0])[:, None, :], axis=2))
    logZ = lse(fwd[-1], axis=1)

    gold = scores[rows, 0, tags[:, 0]].copy()
    d_scores = np.zeros_like(scores)
    d_trans = np.zeros_like(trans)
    for t in range(T):
        d_scores[:, t] = np.exp(fwd[t] + bwd[t] - logZ[:, None])
        d_scores[rows, t, tags[:, t]] -= 1
    for t in range(2, T):
        pair = fwd[t - 1][:, :, None] + trans + (scores[:, t] + bwd[t])[:, None, :]
        d_trans += np.exp(pair - logZ[:, None, None]).sum(axis=0)
    for t in range(1, T):
        gold += scores[rows, t, tags[:, t]] + trans[tags[:, t - 1], tags[:, t]]
        np.add.at(d_trans, (tags[:, t - 1], tags[:, t]), -1.0)

    return np.mean(logZ - gold), {'scores': d_scores / N, 'trans': d_trans / N}
