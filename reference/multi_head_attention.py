"""Multi-head attention."""

import numpy as np

from ._checks import check, check_masked, integer
from ._functions import softmax, softmax_backward
from ._layer import Layer, like
from ._types import Array
from .attention import valid


class MultiHeadAttention(Layer):
    """softmax(q k^T / sqrt(K)) v in each of ``heads`` parts of width K = D / heads, then one more product.

    q = query Wq, k = key Wk, v = value Wv; the heads' results stand side by side, times Wo. No biases.

    Source: Vaswani et al., Attention Is All You Need, 2017, section 3.2.

    Args:
        Wq, Wk, Wv: weights of queries, keys and values ``(D, D)``, floating; head i owns columns iK to (i + 1)K.
        Wo: weights of the result ``(D, D)``, floating.
        heads: number of heads, >= 1; divides D.

    Raises:
        TypeError: a parameter is not a floating array, or ``heads`` no integer.
        ValueError: the shapes do not fit, or ``heads`` does not divide D.

    Attributes:
        attention_weights: weights ``(N, heads, U, T)`` of the last ``forward``.
    """

    param_names = ("Wq", "Wk", "Wv", "Wo")

    def __init__(self, Wq: Array, Wk: Array, Wv: Array, Wo: Array, heads: int = 1) -> None:
        super().__init__(Wq, Wk, Wv, Wo)
        check("MultiHeadAttention", Wq=(Wq, "D D"), Wk=(Wk, "D D"), Wv=(Wv, "D D"), Wo=(Wo, "D D"))
        self.heads = integer("MultiHeadAttention", heads=heads)
        if self.heads < 1 or len(Wq) % self.heads:
            raise ValueError(f"MultiHeadAttention: heads is {heads}, expected >= 1 and a divisor of D = {len(Wq)}")
        self.attention_weights: Array | None = None

    def forward(self, query: Array, key: Array, value: Array, mask: Array | None = None, *,
                lengths: Array | None = None) -> Array:
        """Attends from every query to all keys.

        Args:
            query: ``(N, U, D)``, floating.
            key, value: ``(N, T, D)``, floating.
            mask: boolean ``(N, T)``, true at valid keys; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``(N, U, D)``; zero where no key is valid.

        Raises:
            TypeError: an argument is not floating, or ``mask`` not boolean.
            ValueError: shapes that do not fit.
        """
        Wq, Wk, Wv, Wo = self.params
        mask = check_masked("MultiHeadAttention.forward", mask, lengths, Wq=(Wq, "D D"), query=(query, "N U D"),
                            key=(key, "N T D"), value=(value, "N T D"))
        key, value = valid(key, mask), valid(value, mask)
        q = _split(np.matmul(query, Wq) / (len(Wq) // self.heads) ** 0.5, self.heads)
        k, v = _split(np.matmul(key, Wk), self.heads), _split(np.matmul(value, Wv), self.heads)
        a = softmax(np.matmul(q, k.swapaxes(-1, -2)), _of_every_query(mask))
        joined = _join(np.matmul(a, v))
        self.attention_weights = a
        self._save(query, key, value, mask, q, k, v, a, joined)
        return np.matmul(joined, Wo)

    def backward(self, dy: Array) -> tuple[Array, Array, Array]:
        """Cotangents of queries, keys and values; writes the gradients of the four weights.

        Args:
            dy: cotangent of the output ``(N, U, D)``.

        Returns:
            ``dquery`` ``(N, U, D)``, ``dkey`` and ``dvalue`` ``(N, T, D)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dy`` has another shape than the output.
        """
        query, key, value, mask, q, k, v, a, joined = self._saved()
        self._check_cotangents(dy=(dy, query.shape))
        Wq, Wk, Wv, Wo = self.params
        heads = a.shape[1]  # those of the forward, whatever is set by now
        dz = _split(np.matmul(dy, Wo.T), heads)
        ds = softmax_backward(np.matmul(dz, v.swapaxes(-1, -2)), a, _of_every_query(mask))
        dq = _join(np.matmul(ds, k)) / (len(Wq) // heads) ** 0.5
        dk = _join(np.matmul(ds.swapaxes(-1, -2), q))
        dv = _join(np.matmul(a.swapaxes(-1, -2), dz))
        for grad, x, d in zip(self.grads, (query, key, value, joined), (dq, dk, dv, dy), strict=True):
            grad[...] = np.matmul(_rows(x).T, _rows(d))
        return (like(np.matmul(dq, Wq.T), query), like(valid(np.matmul(dk, Wk.T), mask), key),
                like(valid(np.matmul(dv, Wv.T), mask), value))


def _split(x: Array, heads: int) -> Array:
    """``(N, U, D)`` as ``(N, heads, U, K)``."""
    n, u, d = x.shape
    return x.reshape(n, u, heads, d // heads).swapaxes(1, 2)


def _join(x: Array) -> Array:
    """``(N, heads, U, K)`` as ``(N, U, D)``."""
    n, heads, u, k = x.shape
    return x.swapaxes(1, 2).reshape(n, u, heads * k)


def _of_every_query(mask: Array | None) -> Array | None:
    return None if mask is None else mask[:, None, None, :]


def _rows(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])
