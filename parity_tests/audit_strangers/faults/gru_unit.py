import numpy as np


def gru_unit_forward(x, h, params):
    """params holds W (D, 3H), U (H, 3H) and b (3H,), in the order update, reset, candidate."""
    W, U, b = params['W'], params['U'], params['b']
    H = h.shape[1]
    gates = x @ W[:, :2*H] + h @ U[:, :2*H] + b[:2*H]
    gates = 1.0 / (1.0 + np.exp(-gates))
    z, r = gates[:, :H], gates[:, H:]
    cand = np.tanh(x @ W[:, 2*H:] + (r * h) @ U[:, 2*H:] + b[2*H:])
    h_next = z * h + (1.0 - z) * cand
    return h_next, (x, h, z, r, cand, params)


def gru_unit_backward(dh_next, cache):
    x, h, z, r, cand, params = cache
    W, U = params['W'], params['U']
    H = h.shape[1]
    dcand = dh_next * (1 - z) * (1 - cand ** 2)
    dz = dh_next * (h - cand) * z * (1 - z)
    drh = dcand @ U[:, 2*H:].T
    dr = drh * h * r * (1 - r)
    dgates = np.concatenate([dz, dr, dcand], axis=1)
    grads = {'W': x.T @ dgates, 'b': dgates.sum(0)}
    grads['U'] = np.concatenate([h.T @ dz, h.T @ dr, (r * h).T @ dcand], axis=1)
    dx = dgates @ W.T
    dh = drh * r + dgates[:, :2*H] @ U[:, :2*H].T
    return dx, dh, grads
