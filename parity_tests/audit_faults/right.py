"""Right layers written in other ways than the textbook's, on which an audit must find nothing.

einsum, loops, repeats against broadcasting, other caches, batched, in place on own buffers.
"""

import numpy as np

from . import textbook

RIGHTS = {}


def right(like):
    """Registers a class as a right implementation of a layer of the catalogue."""
    def register(kind):
        RIGHTS[kind.__name__] = like, kind
        return kind

    return register


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


class Plain:
    """No parameters."""

    def __init__(self):
        self.params, self.grads = [], []


class Weighted:
    """Parameters by position, gradients in arrays of the same shapes."""

    def __init__(self, *params):
        self.params = list(params)
        self.grads = [np.zeros_like(p) for p in params]

    def write(self, *gradients):
        for grad, value in zip(self.grads, gradients, strict=True):
            grad[...] = value


# --- softmax --------------------------------------------------------------------------------------


@right("Softmax")
class SoftmaxByJacobian(Plain):
    def forward(self, x):
        e = np.exp(x - x.max(-1)[..., None])
        self.y = e / np.einsum("...v->...", e)[..., None]
        return self.y

    def backward(self, dy):
        jacobian = self.y[..., :, None] * (np.eye(self.y.shape[-1]) - self.y[..., None, :])
        return np.einsum("...vw,...w->...v", jacobian, dy)


@right("Softmax")
class SoftmaxInPlace(Plain):
    def forward(self, x):
        y = x.copy()
        y -= y.max(axis=-1, keepdims=True)
        np.exp(y, out=y)
        y /= y.sum(axis=-1, keepdims=True)
        self.y = y
        return y

    def backward(self, dy):
        dx = self.y * dy
        dx -= self.y * dx.sum(axis=-1, keepdims=True)
        return dx


@right("Softmax")
class SoftmaxThroughLogarithm(Plain):
    def forward(self, x):
        top = x.max(axis=-1, keepdims=True)
        self.log_y = x - top - np.log(np.exp(x - top).sum(axis=-1, keepdims=True))
        return np.exp(self.log_y)

    def backward(self, dy):
        y = np.exp(self.log_y)
        dlog = y * dy
        return dlog - y * dlog.sum(axis=-1, keepdims=True)


@right("Softmax")
class SoftmaxRowByRow(Plain):
    def forward(self, x):
        rows = x.reshape(-1, x.shape[-1])
        self.rows = [np.exp(r - r.max()) / np.exp(r - r.max()).sum() for r in rows]
        return np.array(self.rows).reshape(x.shape)

    def backward(self, dy):
        rows = dy.reshape(-1, dy.shape[-1])
        return np.array([y * (d - y @ d) for y, d in zip(self.rows, rows, strict=True)]).reshape(dy.shape)


# --- affine ---------------------------------------------------------------------------------------


@right("Affine")
class AffineByEinsum(Weighted):
    def forward(self, x):
        self.x = x
        return np.einsum("nd,dh->nh", x, self.params[0]) + self.params[1]

    def backward(self, dy):
        self.write(np.einsum("nd,nh->dh", self.x, dy), np.einsum("nh->h", dy))
        return np.einsum("nh,dh->nd", dy, self.params[0])


@right("Affine")
class AffineBySample(Weighted):
    def forward(self, x):
        self.x = x.copy()
        return np.stack([row @ self.params[0] + self.params[1] for row in x])

    def backward(self, dy):
        for grad in self.grads:
            grad.fill(0)
        for row, d in zip(self.x, dy, strict=True):
            self.grads[0] += np.outer(row, d)
            self.grads[1] += d
        return np.stack([self.params[0] @ d for d in dy])


@right("Affine")
class AffineWithColumnOfOnes(Weighted):
    def forward(self, x):
        self.x = np.concatenate((x, np.ones((len(x), 1), x.dtype)), axis=1)
        self.W = np.concatenate((self.params[0], self.params[1][None]))
        return self.x @ self.W

    def backward(self, dy):
        dW = self.x.T @ dy
        self.write(dW[:-1], dW[-1])
        return (dy @ self.W.T)[:, :-1]


# --- embedding ------------------------------------------------------------------------------------


@right("Embedding")
class EmbeddingByProduct(Weighted):
    def forward(self, idx):
        self.one_hot = np.eye(len(self.params[0]))[idx]
        return self.one_hot @ self.params[0]

    def backward(self, dy):
        self.write(self.one_hot.T @ dy)


@right("Embedding")
class EmbeddingByLoop(Weighted):
    def forward(self, idx):
        self.idx = idx.tolist()
        return np.array([self.params[0][i] for i in self.idx]).reshape(len(idx), -1)

    def backward(self, dy):
        self.grads[0][:] = 0
        for i, d in zip(self.idx, dy, strict=True):
            self.grads[0][i] += d
        return


@right("Embedding")
class EmbeddingByBincount(Weighted):
    def forward(self, idx):
        self.idx = idx
        return np.take(self.params[0], idx, axis=0)

    def backward(self, dy):
        V, D = self.params[0].shape
        self.write(np.stack([np.bincount(self.idx, weights=dy[:, d], minlength=V) for d in range(D)], axis=1))


@right("TimeEmbedding")
class TimeEmbeddingFlat(Weighted):
    def forward(self, xs):
        self.xs = xs
        return self.params[0][xs.ravel()].reshape(*xs.shape, -1)

    def backward(self, dys):
        self.grads[0][...] = 0
        np.add.at(self.grads[0], self.xs.ravel(), dys.reshape(-1, dys.shape[-1]))
        return


@right("TimeEmbedding")
class TimeEmbeddingByEinsum(Weighted):
    def forward(self, xs):
        self.hot = (xs[..., None] == np.arange(len(self.params[0]))).astype(self.params[0].dtype)
        return np.einsum("ntv,vd->ntd", self.hot, self.params[0])

    def backward(self, dys):
        self.write(np.tensordot(self.hot, dys, axes=([0, 1], [0, 1])))


# --- losses ---------------------------------------------------------------------------------------


@right("SoftmaxWithLoss")
class LossByOneHot(Plain):
    def forward(self, x, t):
        hot = t if t.ndim == 2 else np.eye(x.shape[1])[t]
        z = x - x.max(axis=1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        self.kept = np.exp(log_p), hot
        return -(hot * log_p).sum() / len(x)

    def backward(self, dout=1):
        p, hot = self.kept
        return dout * (p - hot) / len(p)


@right("SoftmaxWithLoss")
class LossByLogSumExp(Plain):
    def forward(self, x, t):
        t = t.argmax(axis=1) if t.ndim == 2 else t
        self.x, self.t = x, t
        top = x.max(axis=1)
        picked = np.take_along_axis(x, t[:, None], axis=1)[:, 0]
        return np.mean(top + np.log(np.exp(x - top[:, None]).sum(axis=1)) - picked)

    def backward(self, dout=1):
        e = np.exp(self.x - self.x.max(axis=1, keepdims=True))
        dx = e / e.sum(axis=1, keepdims=True)
        for n, t in enumerate(self.t):
            dx[n, t] -= 1
        return dx * (dout / len(dx))


@right("TimeSoftmaxWithLoss")
class TimeLossOfSelected(Plain):
    ignore_label = -1

    def forward(self, xs, ts):
        ts = ts.argmax(axis=-1) if ts.ndim == 3 else ts
        self.counts = ts != self.ignore_label
        x, self.t = xs[self.counts], ts[self.counts]
        self.shape, self.n = xs.shape, max(len(x), 1)
        z = x - x.max(axis=1, keepdims=True, initial=-1e30)
        log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
        self.p = np.exp(log_p)
        return -log_p[np.arange(len(x)), self.t].sum() / self.n

    def backward(self, dout=1):
        dx = self.p.copy()
        dx[np.arange(len(dx)), self.t] -= 1
        dxs = np.zeros(self.shape)
        dxs[self.counts] = dx * dout / self.n
        return dxs


@right("TimeSoftmaxWithLoss")
class TimeLossByWhere(Plain):
    ignore_label = -1

    def forward(self, xs, ts):
        if ts.ndim == 3:
            ts = ts.argmax(axis=2)
        keep = ts != self.ignore_label
        hot = np.eye(xs.shape[2])[np.where(keep, ts, 0)] * keep[..., None]
        z = xs - xs.max(axis=2, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(axis=2, keepdims=True))
        self.kept = np.exp(log_p) * keep[..., None], hot, max(keep.sum(), 1)
        return -np.einsum("ntv,ntv->", hot, log_p) / self.kept[2]

    def backward(self, dout=1):
        p, hot, n = self.kept
        return (p - hot) * (dout / n)


# --- cells ----------------------------------------------------------------------------------------


@right("RNN")
class RNNOfOneProduct(Weighted):
    def forward(self, x, h_prev):
        Wx, Wh, b = self.params
        self.D = len(Wx)
        self.both, self.W = np.hstack((x, h_prev)), np.vstack((Wx, Wh))
        self.h = np.tanh(self.both @ self.W + b)
        return self.h

    def backward(self, dh):
        da = (1 - self.h * self.h) * dh
        dW = self.both.T @ da
        self.write(dW[: self.D], dW[self.D :], da.sum(0))
        dboth = da @ self.W.T
        return dboth[:, : self.D], dboth[:, self.D :]


@right("RNN")
class RNNByEinsum(Weighted):
    def forward(self, x, h_prev):
        Wx, Wh, b = self.params
        a = np.einsum("nd,dh->nh", x, Wx) + np.einsum("nk,kh->nh", h_prev, Wh) + b
        self.kept = x, h_prev, a
        return np.tanh(a)

    def backward(self, dh):
        x, h_prev, a = self.kept
        da = dh / np.cosh(a) ** 2
        self.write(np.einsum("nd,nh->dh", x, da), np.einsum("nk,nh->kh", h_prev, da), np.einsum("nh->h", da))
        return np.einsum("nh,dh->nd", da, self.params[0]), np.einsum("nh,kh->nk", da, self.params[1])


def gates_forward(a, c):
    """f, g, i, o from their pre-activations."""
    f, g, i, o = np.split(a, 4, axis=-1)
    f, g, i, o = sigmoid(f), np.tanh(g), sigmoid(i), sigmoid(o)
    c_next = f * c + g * i
    return o * np.tanh(c_next), c_next, (f, g, i, o)


def gates_backward(dh, dc, c, c_next, gates):
    f, g, i, o = gates
    th = np.tanh(c_next)
    dc = dc + dh * o * (1 - th * th)
    da = np.concatenate((dc * c * f * (1 - f), dc * i * (1 - g * g), dc * g * i * (1 - i), dh * th * o * (1 - o)), -1)
    return da, dc * f


@right("LSTM")
class LSTMOfSplits(Weighted):
    def forward(self, x, h_prev, c_prev):
        Wx, Wh, b = self.params
        h, c, gates = gates_forward(x @ Wx + h_prev @ Wh + b, c_prev)
        self.kept = x, h_prev, c_prev, c, gates
        return h, c

    def backward(self, dh, dc):
        x, h_prev, c_prev, c, gates = self.kept
        da, dc_prev = gates_backward(dh, dc, c_prev, c, gates)
        self.write(x.T @ da, h_prev.T @ da, da.sum(axis=0))
        return da @ self.params[0].T, da @ self.params[1].T, dc_prev


@right("LSTM")
class LSTMGateByGate(Weighted):
    def forward(self, x, h_prev, c_prev):
        Wx, Wh, b = self.params
        H = len(Wh)
        self.gates = []
        for k, function in enumerate((sigmoid, np.tanh, sigmoid, sigmoid)):
            span = slice(k * H, (k + 1) * H)
            self.gates.append(function(x @ Wx[:, span] + h_prev @ Wh[:, span] + b[span]))
        f, g, i, o = self.gates
        c = f * c_prev + i * g
        self.kept = x, h_prev, c_prev, np.tanh(c)
        return o * self.kept[3], c

    def backward(self, dh, dc):
        x, h_prev, c_prev, th = self.kept
        f, g, i, o = self.gates
        Wx, Wh, _ = self.params
        H = len(Wh)
        dc = dc + dh * o * (1 - th) * (1 + th)
        pieces = (dc * c_prev * (f - f * f), dc * i * (1 - g ** 2), dc * g * (i - i * i), dh * th * (o - o * o))
        dx, dh_prev = 0, 0
        for k, d in enumerate(pieces):
            span = slice(k * H, (k + 1) * H)
            self.grads[0][:, span] = x.T @ d
            self.grads[1][:, span] = h_prev.T @ d
            self.grads[2][span] = d.sum(axis=0)
            dx = dx + d @ Wx[:, span].T
            dh_prev = dh_prev + d @ Wh[:, span].T
        return dx, dh_prev, dc * f


@right("LSTM")
class LSTMInOneBuffer(Weighted):
    def forward(self, x, h_prev, c_prev):
        Wx, Wh, b = self.params
        H = len(Wh)
        a = np.matmul(x, Wx)
        a += np.matmul(h_prev, Wh)
        a += b
        np.tanh(a[:, H : 2 * H], out=a[:, H : 2 * H])
        for k in (0, 2, 3):
            a[:, k * H : (k + 1) * H] = sigmoid(a[:, k * H : (k + 1) * H])
        c = a[:, :H] * c_prev + a[:, H : 2 * H] * a[:, 2 * H : 3 * H]
        self.kept = x, h_prev, c_prev, c, a
        return a[:, 3 * H :] * np.tanh(c), c

    def backward(self, dh, dc):
        x, h_prev, c_prev, c, a = self.kept
        da, dc_prev = gates_backward(dh, dc, c_prev, c, np.split(a, 4, axis=1))
        self.write(np.einsum("nd,ng->dg", x, da), np.einsum("nh,ng->hg", h_prev, da), np.einsum("ng->g", da))
        return np.dot(da, self.params[0].T), np.dot(da, self.params[1].T), dc_prev


def gru_step(a, Wh, h):
    H = len(Wh)
    zr = sigmoid(a[:, : 2 * H] + h @ Wh[:, : 2 * H])
    z, r = zr[:, :H], zr[:, H:]
    hat = np.tanh(a[:, 2 * H :] + (r * h) @ Wh[:, 2 * H :])
    return h + z * (hat - h), (h, z, r, hat)


def gru_step_backward(Wh, kept, dh):
    h, z, r, hat = kept
    H = len(Wh)
    dhat = dh * z * (1 - hat * hat)
    drh = dhat @ Wh[:, 2 * H :].T
    dzr = np.hstack((dh * (hat - h) * z * (1 - z), drh * h * r * (1 - r)))
    dWh = np.hstack((h.T @ dzr, (r * h).T @ dhat))
    return np.hstack((dzr, dhat)), dWh, dh * (1 - z) + drh * r + dzr @ Wh[:, : 2 * H].T


@right("GRU")
class GRUOfSteps(Weighted):
    def forward(self, x, h_prev):
        Wx, Wh, b = self.params
        h, kept = gru_step(x @ Wx + b, Wh, h_prev)
        self.kept = x, kept
        return h

    def backward(self, dh):
        x, kept = self.kept
        da, dWh, dh_prev = gru_step_backward(self.params[1], kept, dh)
        self.write(x.T @ da, dWh, da.sum(axis=0))
        return da @ self.params[0].T, dh_prev


@right("GRU")
class GRUByEinsum(Weighted):
    def forward(self, x, h_prev):
        D, H = len(self.params[0]), len(self.params[1])
        Wx, Wh, b = self.params[0].reshape(D, 3, H), self.params[1].reshape(H, 3, H), self.params[2].reshape(3, H)
        a = np.einsum("nd,dgh->gnh", x, Wx) + b[:, None]
        z = sigmoid(a[0] + h_prev @ Wh[:, 0])
        r = sigmoid(a[1] + h_prev @ Wh[:, 1])
        hat = np.tanh(a[2] + np.einsum("nk,nk,kh->nh", r, h_prev, Wh[:, 2]))
        self.kept = x, h_prev, z, r, hat
        return (1 - z) * h_prev + z * hat

    def backward(self, dh):
        x, h, z, r, hat = self.kept
        da, dWh, dh_prev = gru_step_backward(self.params[1], (h, z, r, hat), dh)
        self.write(np.einsum("nd,ng->dg", x, da), dWh, np.ones(len(da)) @ da)
        return np.einsum("ng,dg->nd", da, self.params[0]), dh_prev


# --- sequences ------------------------------------------------------------------------------------


class Stateful(Weighted):
    """A state kept between calls where that is asked for."""

    def __init__(self, Wx, Wh, b, stateful=False):
        super().__init__(Wx, Wh, b)
        self.stateful = stateful
        self.h = self.c = None

    def set_state(self, h, c=None):
        self.h, self.c = h, c

    def reset_state(self):
        self.set_state(None)

    def start(self, xs):
        zero = np.zeros((len(xs), len(self.params[1])), xs.dtype)
        h = self.h if self.stateful and self.h is not None else zero
        c = self.c if self.stateful and self.c is not None else zero
        return h, c


@right("TimeRNN")
class TimeRNNHoisted(Stateful):
    def forward(self, xs):
        Wx, Wh, b = self.params
        h, _ = self.start(xs)
        a = xs @ Wx + b
        self.hs = [h]
        for t in range(xs.shape[1]):
            self.hs.append(np.tanh(a[:, t] + self.hs[-1] @ Wh))
        self.xs, self.h = xs, self.hs[-1]
        return np.stack(self.hs[1:], axis=1)

    def backward(self, dhs):
        Wx, Wh, b = self.params
        das = np.zeros_like(dhs)
        dh, dWh = 0, 0
        for t in range(dhs.shape[1] - 1, -1, -1):
            das[:, t] = (dhs[:, t] + dh) * (1 - self.hs[t + 1] ** 2)
            dh = das[:, t] @ Wh.T
            dWh = dWh + self.hs[t].T @ das[:, t]
        self.dh = dh
        self.write(np.tensordot(self.xs, das, ((0, 1), (0, 1))), dWh, das.sum(axis=(0, 1)))
        return das @ Wx.T


@right("TimeRNN")
class TimeRNNRecomputed(Stateful):
    """Keeps only the inputs and the first state, and runs forward again in backward."""

    def run(self, xs, h):
        Wx, Wh, b = self.params
        states = [h]
        for t in range(xs.shape[1]):
            states.append(np.tanh(np.dot(xs[:, t], Wx) + np.dot(states[-1], Wh) + b))
        return states

    def forward(self, xs):
        h, _ = self.start(xs)
        self.kept = xs.copy(), h.copy()
        states = self.run(xs, h)
        self.h = states[-1]
        return np.array(states[1:]).transpose(1, 0, 2)

    def backward(self, dhs):
        xs, h = self.kept
        states = self.run(xs, h)
        Wx, Wh, b = self.params
        for grad in self.grads:
            grad[...] = 0
        dxs, dh = np.zeros_like(xs), np.zeros_like(h)
        for t in reversed(range(xs.shape[1])):
            da = (dhs[:, t] + dh) * (1 - states[t + 1] ** 2)
            self.grads[0] += xs[:, t].T @ da
            self.grads[1] += states[t].T @ da
            self.grads[2] += da.sum(axis=0)
            dxs[:, t], dh = da @ Wx.T, da @ Wh.T
        self.dh = dh
        return dxs


@right("TimeLSTM")
class TimeLSTMHoisted(Stateful):
    def forward(self, xs):
        Wx, Wh, b = self.params
        h, c = self.start(xs)
        a = np.einsum("ntd,dg->tng", xs, Wx) + b
        self.kept = []
        hs = np.zeros((xs.shape[1], *h.shape), a.dtype)
        for t in range(len(a)):
            h_next, c_next, gates = gates_forward(a[t] + h @ Wh, c)
            self.kept.append((h, c, c_next, gates))
            hs[t] = h_next
            h, c = h_next, c_next
        self.xs, self.h, self.c = xs, h, c
        return hs.swapaxes(0, 1)

    def backward(self, dhs):
        Wx, Wh, b = self.params
        dh = dc = np.zeros_like(dhs[:, 0])
        das, dWh = [], np.zeros_like(Wh)
        for t in reversed(range(dhs.shape[1])):
            h, c, c_next, gates = self.kept[t]
            da, dc = gates_backward(dhs[:, t] + dh, dc, c, c_next, gates)
            dh = da @ Wh.T
            dWh += h.T @ da
            das.append(da)
        das = np.stack(das[::-1], axis=1)
        self.dh, self.dc = dh, dc
        self.write(np.einsum("ntd,ntg->dg", self.xs, das), dWh, das.sum(axis=0).sum(axis=0))
        return das @ Wx.T


@right("TimeLSTM")
class TimeLSTMOfClosures(Stateful):
    def forward(self, xs):
        h, c = self.start(xs)
        self.tape, hs = [], []
        for t in range(xs.shape[1]):
            h, c, back = self.step(xs[:, t], h, c)
            hs.append(h)
            self.tape.append(back)
        self.h, self.c = h, c
        return np.stack(hs, axis=1)

    def step(self, x, h, c):
        Wx, Wh, b = self.params
        h_next, c_next, gates = gates_forward(x @ Wx + h @ Wh + b, c)

        def back(dh, dc):
            da, dc = gates_backward(dh, dc, c, c_next, gates)
            return da @ Wx.T, da @ Wh.T, dc, (x.T @ da, h.T @ da, da.sum(axis=0))

        return h_next, c_next, back

    def backward(self, dhs):
        dh, dc, dxs, totals = 0, 0, [], [0, 0, 0]
        for t, back in reversed(list(enumerate(self.tape))):
            dx, dh, dc, grads = back(dhs[:, t] + dh, dc)
            dxs.append(dx)
            totals = [total + g for total, g in zip(totals, grads, strict=True)]
        self.dh = dh
        self.write(*totals)
        return np.stack(dxs[::-1], axis=1)


@right("TimeGRU")
class TimeGRUHoisted(Stateful):
    def forward(self, xs):
        Wx, Wh, b = self.params
        h, _ = self.start(xs)
        a = xs @ Wx + b
        hs, self.kept = [], []
        for t in range(xs.shape[1]):
            h, kept = gru_step(a[:, t], Wh, h)
            hs.append(h)
            self.kept.append(kept)
        self.xs, self.h = xs, h
        return np.stack(hs, axis=1)

    def backward(self, dhs):
        dh, das, dWh = np.zeros_like(dhs[:, 0]), [], 0
        for t in reversed(range(dhs.shape[1])):
            da, dW, dh = gru_step_backward(self.params[1], self.kept[t], dhs[:, t] + dh)
            das.insert(0, da)
            dWh = dWh + dW
        das = np.stack(das, axis=1)
        self.dh = dh
        flat = das.reshape(-1, das.shape[-1])
        self.write(self.xs.reshape(len(flat), -1).T @ flat, dWh, flat.sum(axis=0))
        return das @ self.params[0].T


@right("TimeBiLSTM")
class TimeBiLSTMOfHoisted:
    def __init__(self, Wx1, Wh1, b1, Wx2, Wh2, b2, stateful=False):
        self.ways = TimeLSTMHoisted(Wx1, Wh1, b1, stateful), TimeLSTMOfClosures(Wx2, Wh2, b2, stateful)
        self.params = [p for way in self.ways for p in way.params]
        self.grads = [g for way in self.ways for g in way.grads]

    def forward(self, xs):
        ahead, back = self.ways[0].forward(xs), self.ways[1].forward(np.flip(xs, 1))
        return np.dstack((ahead, np.flip(back, 1)))

    def backward(self, dhs):
        ahead, back = np.split(dhs, 2, axis=2)
        return self.ways[0].backward(ahead) + np.flip(self.ways[1].backward(np.flip(back, 1)), 1)


@right("TimeAffine")
class TimeAffineByTensordot(Weighted):
    def forward(self, xs):
        self.xs = xs
        return np.tensordot(xs, self.params[0], axes=1) + self.params[1]

    def backward(self, dys):
        self.write(np.tensordot(self.xs, dys, axes=((0, 1), (0, 1))), dys.sum(axis=(0, 1)))
        return np.tensordot(dys, self.params[0], axes=((2,), (1,)))


@right("TimeAffine")
class TimeAffineByEinsum(Weighted):
    def forward(self, xs):
        self.xs = np.ascontiguousarray(xs)
        return np.einsum("ntd,dh->nth", xs, self.params[0], optimize=True) + self.params[1]

    def backward(self, dys):
        np.einsum("ntd,nth->dh", self.xs, dys, out=self.grads[0], casting="same_kind")
        np.einsum("nth->h", dys, out=self.grads[1], casting="same_kind")
        return np.einsum("nth,dh->ntd", dys, self.params[0])


@right("TimeAffine")
class TimeAffineByStep(Weighted):
    def forward(self, xs):
        self.xs = xs
        return np.stack([xs[:, t] @ self.params[0] + self.params[1] for t in range(xs.shape[1])], axis=1)

    def backward(self, dys):
        dW, db = np.zeros_like(self.params[0]), np.zeros_like(self.params[1])
        dxs = np.empty_like(self.xs)
        for t in range(dys.shape[1]):
            dW += self.xs[:, t].T @ dys[:, t]
            db += dys[:, t].sum(axis=0)
            dxs[:, t] = dys[:, t] @ self.params[0].T
        self.write(dW, db)
        return dxs


@right("TimeDropout")
class TimeDropoutOfGenerator(Plain):
    def __init__(self, dropout_ratio=0.5):
        super().__init__()
        self.ratio = self.dropout_ratio = dropout_ratio
        self.train_flg = True
        self.rng = np.random.default_rng()

    def forward(self, xs):
        self.keep = self.rng.random(xs.shape) >= self.ratio if self.train_flg else np.ones(xs.shape, bool)
        self.scale = 1 / (1 - self.ratio) if self.train_flg else 1
        return np.where(self.keep, xs * self.scale, 0)

    def backward(self, dys):
        return np.where(self.keep, dys * self.scale, 0)


@right("TimeDropout")
class TimeDropoutOfGivenMask(Plain):
    def __init__(self, dropout_ratio=0.5):
        super().__init__()
        self.dropout_ratio, self.train_flg = dropout_ratio, True

    def forward(self, xs, mask):
        self.factor = mask / (1 - self.dropout_ratio) if self.train_flg else np.ones_like(xs)
        return self.factor * xs

    def backward(self, dys):
        return self.factor * dys


# --- attention ------------------------------------------------------------------------------------


@right("WeightSum")
class WeightSumByEinsum(Plain):
    def forward(self, hs, a):
        self.kept = hs, a
        return np.einsum("nth,nt->nh", hs, a)

    def backward(self, dc):
        hs, a = self.kept
        return np.einsum("nt,nh->nth", a, dc), np.einsum("nth,nh->nt", hs, dc)


@right("WeightSum")
class WeightSumByProduct(Plain):
    def forward(self, hs, a):
        self.hs, self.a = hs, a
        return (a[:, None, :] @ hs).squeeze(1)

    def backward(self, dc):
        return self.a[:, :, None] @ dc[:, None, :], (self.hs @ dc[:, :, None])[..., 0]


@right("WeightSum")
class WeightSumByStep(Plain):
    def forward(self, hs, a):
        self.hs, self.a = hs.copy(), a.copy()
        c = np.zeros((hs.shape[0], hs.shape[2]), hs.dtype)
        for t in range(hs.shape[1]):
            c += hs[:, t] * a[:, t : t + 1]
        return c

    def backward(self, dc):
        dhs, da = np.empty_like(self.hs), np.empty_like(self.a)
        for n in range(len(dc)):
            for t in range(self.a.shape[1]):
                dhs[n, t] = self.a[n, t] * dc[n]
                da[n, t] = np.dot(self.hs[n, t], dc[n])
        return dhs, da


def attend(scores, mask=None):
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
        some = mask.any(axis=-1, keepdims=True)
        scores = np.where(some, scores, 0)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    a = e / e.sum(axis=-1, keepdims=True)
    return a if mask is None else np.where(mask, a, 0)


@right("AttentionWeight")
class AttentionWeightByEinsum(Plain):
    def forward(self, hs, h):
        a = attend(np.einsum("nth,nh->nt", hs, h))
        self.kept = hs, h, a
        return a

    def backward(self, da):
        hs, h, a = self.kept
        ds = np.einsum("nts,ns->nt", np.einsum("nt,ts->nts", a, np.eye(a.shape[1])) - a[:, :, None] * a[:, None], da)
        return np.einsum("nt,nh->nth", ds, h), np.einsum("nt,nth->nh", ds, hs)


@right("AttentionWeight")
class AttentionWeightWithMask(Plain):
    def forward(self, hs, h, mask=None):
        a = attend((hs @ h[..., None])[..., 0], mask)
        self.kept = hs, h, a
        return a

    def backward(self, da):
        hs, h, a = self.kept
        ds = a * da
        ds -= a * ds.sum(axis=1, keepdims=True)
        return ds[..., None] * h[:, None], (ds[:, None] @ hs)[:, 0]


@right("Attention")
class AttentionInOne(Plain):
    def forward(self, hs, h):
        a = attend(np.matmul(hs, h[:, :, None])[:, :, 0])
        self.kept = hs, h, a
        self.attention_weight = a
        return np.matmul(a[:, None], hs)[:, 0]

    def backward(self, dc):
        hs, h, a = self.kept
        da = np.einsum("nth,nh->nt", hs, dc)
        ds = a * (da - np.sum(a * da, axis=1)[:, None])
        dhs = a[:, :, None] * dc[:, None] + ds[:, :, None] * h[:, None]
        return dhs, np.einsum("nt,nth->nh", ds, hs)


@right("Attention")
class AttentionOfTwo(Plain):
    def __init__(self):
        super().__init__()
        self.first, self.second = AttentionWeightWithMask(), WeightSumByProduct()

    def forward(self, hs, h, mask=None):
        return self.second.forward(hs, self.first.forward(hs, h, mask))

    def backward(self, dc):
        dhs, da = self.second.backward(dc)
        more, dh = self.first.backward(da)
        dhs += more
        return dhs, dh


@right("TimeAttention")
class TimeAttentionBatched(Plain):
    def forward(self, hs_enc, hs_dec, mask=None):
        a = attend(np.einsum("nth,nuh->nut", hs_enc, hs_dec), None if mask is None else mask[:, None])
        self.kept = hs_enc, hs_dec, a
        self.attention_weights = list(a.swapaxes(0, 1))
        return a @ hs_enc

    def backward(self, dcs):
        hs_enc, hs_dec, a = self.kept
        da = dcs @ hs_enc.swapaxes(1, 2)
        ds = a * (da - (a * da).sum(axis=2, keepdims=True))
        return a.swapaxes(1, 2) @ dcs + ds.swapaxes(1, 2) @ hs_dec, ds @ hs_enc


@right("TimeAttention")
class TimeAttentionOfOthers(Plain):
    def forward(self, hs_enc, hs_dec):
        self.layers = [AttentionInOne() for _ in range(hs_dec.shape[1])]
        return np.stack([layer.forward(hs_enc, hs_dec[:, u]) for u, layer in enumerate(self.layers)], axis=1)

    def backward(self, dcs):
        pairs = [layer.backward(dcs[:, u]) for u, layer in enumerate(self.layers)]
        return sum(dhs for dhs, _ in pairs), np.stack([dh for _, dh in pairs], axis=1)


# --- models: the textbook's, of the layers above --------------------------------------------------


def rebuilt(name, **parts):
    """A model of the textbook whose layers are others."""
    base = getattr(textbook, name)

    def __init__(self, V, D, H):
        base.__init__(self, V, D, H)
        self.params, self.grads = [], []
        for part, (kind, stateful) in parts.items():
            old = getattr(self, part)
            setattr(self, part, kind(*old.params, **({} if stateful is None else {"stateful": stateful})))
        for part in ("embed", "lstm", "attention", "affine"):
            if hasattr(self, part):
                self.params += getattr(self, part).params
                self.grads += getattr(self, part).grads

    kind = type(f"{name}OfOthers", (base,), {"__init__": __init__, "__module__": __name__})
    return right(name)(kind)


ENCODING = {"embed": (TimeEmbeddingFlat, None), "lstm": (TimeLSTMHoisted, False)}
DECODING = {"embed": (TimeEmbeddingByEinsum, None), "lstm": (TimeLSTMOfClosures, True),
            "affine": (TimeAffineByEinsum, None)}
EncoderOfOthers = rebuilt("Encoder", **ENCODING)
AttentionEncoderOfOthers = rebuilt("AttentionEncoder", **ENCODING)
DecoderOfOthers = rebuilt("Decoder", **DECODING)
PeekyDecoderOfOthers = rebuilt("PeekyDecoder", **DECODING | {"lstm": (TimeLSTMHoisted, True)})
AttentionDecoderOfOthers = rebuilt("AttentionDecoder", **DECODING | {"attention": (TimeAttentionBatched, None)})


class Answering:
    """A sequence-to-sequence model of an encoder and a decoder."""

    parts = ()

    def __init__(self, V, D, H):
        encoder, decoder = self.parts
        self.encoder, self.decoder, self.loss = encoder(V, D, H), decoder(V, D, H), TimeLossByWhere()
        self.params = [*self.encoder.params, *self.decoder.params]
        self.grads = [*self.encoder.grads, *self.decoder.grads]

    def forward(self, xs, ts):
        return self.loss.forward(self.decoder.forward(ts[:, :-1], self.encoder.forward(xs)), ts[:, 1:])

    def backward(self, dout=1):
        self.encoder.backward(self.decoder.backward(self.loss.backward(dout)))


@right("Seq2seq")
class Seq2seqOfOthers(Answering):
    parts = EncoderOfOthers, DecoderOfOthers


@right("PeekySeq2seq")
class PeekySeq2seqOfOthers(Answering):
    parts = EncoderOfOthers, PeekyDecoderOfOthers


@right("AttentionSeq2seq")
class AttentionSeq2seqOfOthers(Answering):
    parts = AttentionEncoderOfOthers, AttentionDecoderOfOthers
