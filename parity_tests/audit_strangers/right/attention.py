import numpy as np

def softmax(z, axis=-1):
    z = z - z.max(axis=axis, keepdims=True)
    e = np.exp(z)
    return e / e.sum(axis=axis, keepdims=True)

def attention_forward(Q, K, V, mask=None):
    """Q (B, Tq, d)  K (B, Tk, d)  V (B, Tk, dv)"""
    d = Q.shape[-1]
    S = Q @ K.transpose(0, 2, 1) / np.sqrt(d)
    if mask is not None:
        S = np.where(mask, S, -1e9)
    P = softmax(S)
    return P @ V, (Q, K, V, P)

def attention_backward(dO, cache):
    Q, K, V, P = cache
    d = Q.shape[-1]
    dV = P.transpose(0, 2, 1) @ dO
    dP = dO @ V.transpose(0, 2, 1)
    dS = P * (dP - (dP * P).sum(-1, keepdims=True))
    dS = dS / np.sqrt(d)
    dQ = dS @ K
    dK = dS.transpose(0, 2, 1) @ Q
    return dQ, dK, dV
