"""The faults: what is replaced in which class of ``textbook.py``, and what the audit has to say of it.

``F`` forward differs from the canonical one, ``B`` backward is not the derivative of its own forward,
``FB`` both, ``P`` the protocol is broken. Behind the verdict, the kinds of diagnosis that are right.
"""

import re
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("textbook.py").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes:
        layer: the class in whose text it is planted, and which is audited.
        old, new: the text replaced, where it first stands in that class (or, with ``where``, in another).
        verdict: ``F``, ``B``, ``FB`` or ``P``.
        kinds: names of the diagnoses that explain it rightly.
        where: the class or function whose text is changed, if not the layer's.
    """

    layer: str
    old: str
    new: str
    verdict: str
    kinds: tuple
    where: str = ""

    @property
    def id(self):
        lines = self.new.strip().splitlines() or [f"without {self.old.strip()}"]
        return f"{self.layer}: {lines[-1]}"

    def source(self):
        """The whole text with the fault in it."""
        name = self.where or self.layer
        keyword = "class" if name[0].isupper() else "def"
        start = re.search(rf"\n{keyword} {name}\b", SOURCE).start()
        end = SOURCE.find("\n\n\n", start)
        body = SOURCE[start:end]
        if self.old not in body:
            raise ValueError(f"{self.id}: {self.old!r} does not stand in {name}")
        return SOURCE[:start] + body.replace(self.old, self.new, 1) + SOURCE[end:]


def _faults(layer, *rows, where=""):
    return [Fault(layer, old, new, verdict, tuple(kinds.split()), where) for old, new, verdict, kinds in rows]


FAULTS = [
    *_faults(
        "Softmax",
        ("dx = dx - self.out * sumdx\n", "pass\n", "B", "dropped jacobian"),
        ("dx = dx - self.out * sumdx", "dx = dx + self.out * sumdx", "B", "sign"),
        ("axis=-1, keepdims=True)\n        dx", "axis=0, keepdims=True)\n        dx", "B", "axis"),
        ("return dx", "return -dx", "B", "sign"),
        ("return dx", "return dx / len(dx)", "B", "1/n factor"),
        ("dx = self.out * dout", "dx = dout.copy()", "B", "jacobian dropped"),
        ("return dx", "return dx * self.out", "B", "jacobian"),
        ("dx = self.out * dout", "dx = self.out * (1 - self.out) * dout; return dx", "B", "jacobian axis"),
        ("dx = self.out * dout", "dout *= self.out; dx = dout", "P", "mutated-cotangent"),
        ("self.out = softmax(x)", "self.out = softmax(x / np.sqrt(x.shape[-1]))", "FB", "scaled factor"),
        ("self.out = softmax(x)", "e = np.exp(x); self.out = e / e.sum(axis=-1, keepdims=True)", "F", "overflow"),
        ("self.out = softmax(x)", "self.out = softmax(x) if x.ndim == 2 else x", "FB", "unchanged"),
        ("self.out = softmax(x)", "self.out = softmax(x).astype('f')", "P", "float32"),
        ("self.out = softmax(x)", "x -= x.max(axis=-1, keepdims=True); self.out = softmax(x)", "P", "mutated-input"),
        ("self.out = softmax(x)", "e = np.exp(x - x.max(axis=0)); self.out = e / e.sum(axis=0)", "FB", "axis"),
    ),
    *_faults(
        "Affine",
        ("self.grads[0][...] = dW", "self.grads[0][...] += dW", "P", "accumulated"),
        ("self.grads[1][...] = db", "self.grads[1][...] += db", "P", "accumulated"),
        ("self.grads[0][...] = dW", "self.grads[0] = dW", "P", "replaced"),
        ("self.grads[1][...] = db", "self.grads[1] = db", "P", "replaced"),
        ("self.grads[0][...] = dW", "self.grads[0][...] = dW / len(dout)", "B", "1/N"),
        ("np.sum(dout, axis=0)", "np.mean(dout, axis=0)", "B", "1/N"),
        ("np.sum(dout, axis=0)", "np.sum(dout, axis=1)", "B", "axis"),
        ("np.dot(dout, W.T)", "np.dot(W, dout.T)", "B", "transposed"),
        ("np.dot(self.x.T, dout)", "np.dot(dout.T, self.x).reshape(W.shape)", "B", "transposed"),
        ("np.dot(dout, W.T)", "np.dot(dout, -W.T)", "B", "sign"),
        ("np.dot(dout, W.T)", "2 * np.dot(dout, W.T)", "B", "factor doubled"),
        ("        self.grads[1][...] = db\n", "", "B", "dropped"),
        ("return dx", "return dx, dW", "B", "count"),
        ("return dx", "return None", "B", "count"),
        ("np.dot(x, W) + b", "np.dot(x, W)", "FB", "unused"),
        ("np.dot(x, W) + b", "np.dot(x, W) - b", "FB", "sign"),
        ("self.x = x", "self.x = x.astype(np.float32)", "P", "float32"),
        ("W, b = self.params\n        dx", "W, b = self.params\n        W *= 0.5\n        dx", "P", "mutated-params"),
        ("return dx", "dx += 1e-3\n        return dx", "B", "linear added"),
        ("self.grads[0][...] = dW", "self.grads[0][...] = dW[:, ::-1]", "B", "flipped"),
    ),
    *_faults(
        "Embedding",
        ("np.add.at(dW, self.idx, dout)", "dW[self.idx] = dout", "B", "duplicates"),
        ("np.add.at(dW, self.idx, dout)", "dW[self.idx] += dout", "B", "duplicates"),
        ("        dW[...] = 0\n", "", "P", "accumulated"),
        ("np.add.at(dW, self.idx, dout)", "np.add.at(dW, self.idx, dout / len(dout))", "B", "1/N"),
        ("dW, = self.grads\n        dW[...] = 0", "dW = np.zeros_like(self.grads[0])", "B", "dropped"),
        ("dW, = self.grads\n        dW[...] = 0", "dW = np.zeros_like(self.grads[0])\n        self.grads[0] = dW", "P",
         "replaced"),
        ("np.add.at(dW, self.idx, dout)", "np.subtract.at(dW, self.idx, dout)", "B", "sign"),
        ("return W[idx]", "return W[idx - 1]", "FB", "shifted gather"),
    ),
    *_faults(
        "SoftmaxWithLoss",
        ("return dx / len(self.t)", "return dx", "B", "1/N"),
        ("        dx = dx * dout\n", "", "B", "linear"),
        ("dx[rows, self.t] -= 1", "dx[rows, self.t] += 1", "B", "sign"),
        ("        dx[rows, self.t] -= 1\n", "", "B", "dropped"),
        ("return dx / len(self.t)", "return dx / dx.size", "B", "1/V"),
        ("return dx / len(self.t)", "return -dx / len(self.t)", "B", "sign"),
        ("dx = self.y.copy()", "dx = self.y", "P", "second-backward"),
        ("-np.sum(log_y[rows, t]) / len(t)", "-np.sum(np.log(self.y[rows, t] + 1e-7)) / len(t)", "FB", "clamped-log"),
        ("-np.sum(log_y[rows, t]) / len(t)", "-np.sum(np.log(np.maximum(self.y[rows, t], 1e-12))) / len(t)", "FB",
         "clamped-log"),
        ("-np.sum(log_y[rows, t]) / len(t)", "-np.sum(np.log(self.y[rows, t])) / len(t)", "F", "overflow"),
        ("-np.sum(log_y[rows, t]) / len(t)", "-np.sum(log_y[rows, t])", "FB", "1/N"),
        ("-np.sum(log_y[rows, t]) / len(t)", "np.sum(log_y[rows, t]) / len(t)", "FB", "sign"),
        ("t = t.argmax(axis=1)", "t = t.argmax(axis=0)", "F", "raised axis transposed"),
    ),
    *_faults(
        "RNN",
        ("(1 - h_next ** 2)", "(1 - h_next)", "B", "jacobian"),
        ("dh_next * (1 - h_next ** 2)", "dh_next.copy()", "B", "jacobian"),
        ("(1 - h_next ** 2)", "h_next * (1 - h_next)", "B", "jacobian"),
        ("np.dot(dt, Wh.T)", "np.dot(dt, Wh)", "B", "transposed jacobian"),
        ("np.dot(h_prev.T, dt)", "np.dot(h_next.T, dt)", "B", ""),
        ("np.dot(dt, Wh.T)", "np.dot(dh_next, Wh.T)", "B", "jacobian"),
        ("return dx, dh_prev", "return dh_prev, dx", "B", "order"),
        ("return dx, dh_prev", "return dx", "B", "count"),
        ("np.sum(dt, axis=0)", "np.sum(dh_next, axis=0)", "B", "jacobian"),
        ("+ np.dot(x, Wx) + b", "+ np.dot(x, Wx)", "FB", "unused"),
        ("np.dot(h_prev, Wh)", "np.dot(h_prev, Wh.T)", "FB", "transposed"),
        ("np.tanh(t)", "np.tanh(0.5 * t)", "FB", ""),
        ("dt = dh_next * (1", "dh_next *= 1 - h_next ** 2\n        dt = dh_next * (1", "P", "mutated-cotangent"),
    ),
    *_faults(
        "LSTM",
        ("dg = dg * (1 - g ** 2)", "dg = dg * (1 - g)", "B", "jacobian"),
        ("di = di * i * (1 - i)", "di = di * (1 - i)", "B", "jacobian"),
        ("df = df * f * (1 - f)", "df = df * (1 - f ** 2)", "B", "jacobian"),
        ("do = do * o * (1 - o)\n", "pass\n", "B", "jacobian"),
        ("ds = dc_next + dh_next * o * (1 - tanh_c ** 2)", "ds = dh_next * o * (1 - tanh_c ** 2)", "B", "dropped"),
        ("ds = dc_next + dh_next * o * (1 - tanh_c ** 2)", "ds = dc_next + dh_next * o", "B", "jacobian"),
        ("ds = dc_next + dh_next * o * (1 - tanh_c ** 2)", "ds = dc_next.copy()", "B", "dropped"),
        ("ds = dc_next + dh_next * o * (1 - tanh_c ** 2)", "ds = dc_next + dh_next * (1 - tanh_c ** 2)", "B", ""),
        ("np.hstack((df, dg, di, do))", "np.hstack((di, df, dg, do))", "B", "gates"),
        ("np.hstack((df, dg, di, do))", "np.hstack((df, di, dg, do))", "B", "gates"),
        ("dc_prev = ds * f", "dc_prev = ds", "B", "jacobian"),
        ("dc_prev = ds * f", "dc_prev = ds * f * 2", "B", "factor doubled"),
        ("df = ds * c_prev", "df = ds * c_next", "B", ""),
        ("do = dh_next * tanh_c\n", "do = dh_next * c_next\n", "B", "jacobian"),
        ("return dx, dh_prev, dc_prev", "return dx, dc_prev, dh_prev", "B", "order"),
        ("return dx, dh_prev, dc_prev", "return dx, dh_prev", "B", "count"),
        ("g = np.tanh(A[:, H:2 * H])\n        i = sigmoid(A[:, 2 * H:3 * H])",
         "i = sigmoid(A[:, H:2 * H])\n        g = np.tanh(A[:, 2 * H:3 * H])", "FB", "gates"),
        ("h_next = o * np.tanh(c_next)", "h_next = o * c_next", "FB", ""),
        ("return h_next, c_next", "return c_next, h_next", "FB", "order"),
        ("return h_next, c_next", "return h_next", "F", "count"),
    ),
    *_faults(
        "LSTM",
        ("np.exp(-np.logaddexp(0, -x)) if not np.iscomplexobj(x) else 1 / (1 + np.exp(-x))",
         "np.exp(x) / (1 + np.exp(x))", "F", "overflow"), where="sigmoid",
    ),
    *_faults(
        "GRU",
        ("dz = dh_next * h_hat - dh_next * h_prev", "dz = dh_next * h_hat", "B", "dropped"),
        ("dz = dh_next * h_hat - dh_next * h_prev", "dz = dh_next * h_hat + dh_next * h_prev", "B", "sign"),
        ("dh_prev = dh_next * (1 - z)", "dh_prev = np.zeros_like(h_prev)", "B", "dropped"),
        ("dh_prev = dh_prev + r * dhr\n", "pass\n", "B", "dropped"),
        ("dh_prev = dh_prev + r * dhr", "dh_prev = dh_prev + dhr", "B", "jacobian"),
        ("dWhh = np.dot((r * h_prev).T, dt)", "dWhh = np.dot(h_prev.T, dt)", "B", "jacobian block"),
        ("dt = dz * z * (1 - z)", "dt = dz * (1 - z)", "B", "jacobian"),
        ("dt = dr * r * (1 - r)", "dt = dr * (1 - r ** 2)", "B", "jacobian"),
        ("np.hstack((dWxz, dWxr, dWxh))", "np.hstack((dWxr, dWxz, dWxh))", "B", "gates"),
        ("h_next = (1 - z) * h_prev + z * h_hat", "h_next = z * h_prev + (1 - z) * h_hat", "FB", "gates"),
        ("h_next = (1 - z) * h_prev + z * h_hat", "h_next = (1 - z) * h_prev + h_hat", "FB", ""),
        ("np.dot(r * h_prev, Whh)", "r * np.dot(h_prev, Whh)", "FB", "variant"),
        ("dh_prev = dh_prev + np.dot(dt, Whr.T)", "dh_prev = dh_prev + 2 * np.dot(dt, Whr.T)", "B", "doubled"),
    ),
    *_faults(
        "TimeRNN",
        ("layer.backward(dhs[:, t, :] + dh)", "layer.backward(dhs[:, t, :])", "B", "dropped last-step"),
        ("grads[i] = grads[i] + grad", "grads[i] = grad.copy()", "B", "first-step"),
        ("dh = 0\n", "dh = dhs[:, -1, :]\n", "B", "doubled"),
        ("dxs.insert(0, dx)", "dxs.append(dx)", "B", "flipped"),
        ("self.h = np.zeros((N, H), dtype=xs.dtype)", "self.h = np.ones((N, H), dtype=xs.dtype)", "F", ""),
        ("if not self.stateful or self.h is None", "if self.h is None", "P", "state-kept"),
        ("if not self.stateful or self.h is None", "if True", "FB", "state-lost"),
        ("self.grads[i][...] = grad", "self.grads[i] = grad", "P", "replaced"),
        ("self.grads[i][...] = grad", "self.grads[i][...] = grad / len(self.layers)", "B", "1/T"),
        ("self.dh = dh\n", "self.dh = 2 * dh\n", "B", "doubled factor"),
    ),
    *_faults(
        "TimeLSTM",
        ("dtype=np.result_type(xs, Wx)", "dtype='f'", "P", "float32"),
        ("dxs = np.empty((N, T, D), dtype=dhs.dtype)", "dxs = np.empty((N, T, D), dtype='f')", "P", "float32"),
        ("dx, dh, dc = layer.backward(dhs[:, t, :] + dh, dc)", "dx, dh, dc = layer.backward(dhs[:, t, :] + dh, 0)", "B",
         "dropped last-step"),
        ("dx, dh, dc = layer.backward(dhs[:, t, :] + dh, dc)", "dx, dh, dc = layer.backward(dhs[:, t, :], dc)", "B",
         "dropped"),
        ("grads[i] = grads[i] + grad", "grads[i] = grad.copy()", "B", "first-step"),
        ("if not self.stateful or self.c is None", "if True", "F", "state-lost"),
        ("if not self.stateful or self.c is None", "if self.c is None", "P", "state-kept"),
        ("for t in reversed(range(T))", "for t in range(T)", "B", ""),
        ("hs[:, t, :] = self.h", "hs[:, T - 1 - t, :] = self.h", "FB", "flipped"),
        ("self.grads[i][...] = grad", "self.grads[i][...] += grad", "P", "accumulated"),
        ("self.dh = dh", "self.dh = dh / N", "B", "1/N"),
    ),
    *_faults(
        "TimeGRU",
        ("layer.backward(dhs[:, t, :] + dh)", "layer.backward(dhs[:, t, :])", "B", "dropped last-step"),
        ("grads[i] = grads[i] + grad", "grads[i] = grad.copy()", "B", "first-step"),
        ("np.stack(dxs[::-1], axis=1)", "np.stack(dxs, axis=1)", "B", "flipped"),
        ("if not self.stateful or self.h is None", "if self.h is None", "P", "state-kept"),
        ("np.stack(dxs[::-1], axis=1)", "np.stack(dxs[::-1], axis=0)", "B", "transposed"),
    ),
    *_faults(
        "TimeBiLSTM",
        ("o2 = o2[:, ::-1]\n", "pass\n", "FB", ""),
        ("do2 = do2[:, ::-1]\n", "pass\n", "B", ""),
        ("dxs2 = dxs2[:, ::-1]\n", "pass\n", "B", ""),
        ("return dxs1 + dxs2", "return dxs1", "B", "dropped"),
        ("np.concatenate((o1, o2), axis=2)", "np.concatenate((o2, o1), axis=2)", "FB", "order"),
        ("return dxs1 + dxs2", "return (dxs1 + dxs2) / 2", "B", "factor"),
    ),
    *_faults(
        "TimeEmbedding",
        ("grad = grad + layer.grads[0]", "grad = layer.grads[0].copy()", "B", "last-step"),
        ("self.grads[0][...] = grad", "self.grads[0][...] += grad", "P", "accumulated"),
        ("self.grads[0][...] = grad", "self.grads[0] = grad", "P", "replaced"),
        ("self.grads[0][...] = grad", "self.grads[0][...] = grad / len(self.layers)", "B", "1/T"),
        ("dtype=self.params[0].dtype", "dtype='f'", "P", "float32"),
    ),
    *_faults(
        "TimeAffine",
        ("db = np.sum(dout, axis=0)", "db = np.sum(dout, axis=0) / N", "B", "1/N"),
        ("dW = np.dot(rx.T, dout)", "dW = np.dot(rx.T, dout) / T", "B", "1/T"),
        ("dW = np.dot(rx.T, dout)", "dW = np.dot(x[:, -1].T, dout.reshape(N, T, -1)[:, -1])", "B", "last-step"),
        ("dW = np.dot(rx.T, dout)", "dW = np.dot(rx.T, dout) / (N * T)", "B", "1/NT"),
        ("dx = np.dot(dout, W.T)\n", "dx = np.dot(dout, W.T); dx *= dx.shape[0]\n", "B", "1/NT"),
        ("return dx.reshape(N, T, D)", "return dx.reshape(T, N, D).transpose(1, 0, 2)", "B", "transposed"),
        ("return dx.reshape(N, T, D)", "return dx", "B", "shape transposed axis"),
    ),
    *_faults(
        "TimeDropout",
        ("return dout * self.mask", "return dout", "B", "jacobian dropped"),
        ("return dout * self.mask", "return dout * (self.mask > 0)", "B", "factor"),
        ("scale = 1 / (1.0 - self.dropout_ratio)", "scale = 1.0", "F", "factor"),
        (">= self.dropout_ratio", "< self.dropout_ratio", "F", "drawn"),
        ("scale = 1 / (1.0 - self.dropout_ratio)", "scale = 1 / self.dropout_ratio if self.dropout_ratio else 1", "F",
         "factor"),
        ("        return xs\n", "        return xs * (1 - self.dropout_ratio)\n", "FB", "factor"),
        ("return xs * self.mask", "xs *= self.mask\n            return xs", "P", "mutated-input"),
        ("keep.astype(xs.dtype)", "keep.astype('f')", "P", "float32"),
    ),
    *_faults(
        "TimeSoftmaxWithLoss",
        ("        dx = dx / count\n", "", "B", "1/NT 1/n factor"),
        ("dx = dx / count", "dx = dx / (N * T)", "B", "1/n factor"),
        ("dx = dx * mask[:, np.newaxis]\n", "pass\n", "B", "ignored dropped"),
        ("count = max(mask.sum(), 1)", "count = len(ts)", "F", "1/n factor"),
        ("count = max(mask.sum(), 1)", "count = mask.sum()", "FB", "overflow case"),
        ("ls = ls * mask\n", "pass\n", "FB", "ignored"),
        ("ls = log_y[np.arange(N * T), ts]", "ls = np.log(np.exp(log_y)[np.arange(N * T), ts] + 1e-7)", "FB",
         "clamped-log"),
        ("        dx = dx * dout\n", "", "B", "linear"),
        ("dx[np.arange(N * T), ts] -= 1", "dx[:, ts] -= 1", "B", ""),
    ),
    *_faults(
        "WeightSum",
        ("da = np.sum(dar, axis=2)", "da = np.mean(dar, axis=2)", "B", "1/H"),
        ("da = np.sum(dar, axis=2)", "da = np.sum(dar, axis=1)", "B", "axis"),
        ("return dhs, da", "return da, dhs", "B", "order"),
        ("dhs = dt * ar", "dhs = dt.copy()", "B", "jacobian"),
        ("dhs = dt * ar", "dhs = dt * ar / T", "B", "1/T"),
        ("da = np.sum(dar, axis=2)", "da = np.sum(dar, axis=2); da[:, :-1] = 0", "B", "last-step"),
        ("c = np.sum(t, axis=1)", "c = np.mean(t, axis=1)", "FB", "1/T scaled"),
        ("self.cache = (hs, ar)", "self.cache = (hs, ar); hs *= 1.5", "P", "mutated-input"),
    ),
    *_faults(
        "AttentionWeight",
        ("s = np.sum(t, axis=2)", "s = np.sum(t, axis=2) / np.sqrt(H)", "FB", "scaled"),
        ("ds = self.softmax.backward(da)", "ds = da.copy()", "B", "jacobian"),
        ("dhr = dt * hs", "dhr = dt * hr", "B", ""),
        ("dh = np.sum(dhr, axis=1)", "dh = np.mean(dhr, axis=1)", "B", "1/T"),
        ("return dhs, dh", "return dh, dhs", "B", "order"),
        ("dhs = dt * hr", "dhs = np.zeros_like(hs)", "B", "dropped"),
        ("a = self.softmax.forward(s)",
         "a = np.exp(s) / np.exp(s).sum(axis=1, keepdims=True); self.softmax.out = a", "F", "overflow"),
        ("a = self.softmax.forward(s)", "a = s; self.softmax.out = softmax(s)", "FB", ""),
    ),
    *_faults(
        "Attention",
        ("dhs = dhs0 + dhs1", "dhs = dhs0", "B", "dropped"),
        ("dhs = dhs0 + dhs1", "dhs = dhs1", "B", "dropped"),
        ("dhs = dhs0 + dhs1", "dhs = dhs0 - dhs1", "B", "sign"),
        ("dhs = dhs0 + dhs1", "dhs = dhs0 + 2 * dhs1", "B", "doubled"),
        ("return dhs, dh", "return dhs, -dh", "B", "sign"),
        ("out = self.weight_sum_layer.forward(hs, a)", "out = self.weight_sum_layer.forward(hs, a) * hs.shape[1]", "FB",
         "1/T scaled"),
    ),
    *_faults(
        "TimeAttention",
        ("dhs_enc = dhs_enc + dhs", "dhs_enc = dhs", "B", "last-step"),
        ("dhs_dec[:, t, :] = dh", "dhs_dec[:, T - 1 - t, :] = dh", "B", "flipped"),
        ("return dhs_enc, dhs_dec", "return dhs_enc / T, dhs_dec", "B", "1/U"),
        ("return dhs_enc, dhs_dec", "return dhs_dec, dhs_enc", "B", "order"),
        ("layer = self.layers[t]", "layer = self.layers[-1]", "B", ""),
        ("out = np.empty_like(hs_dec)", "out = np.empty(hs_dec.shape, dtype='f')", "P", "float32"),
    ),
    *_faults(
        "Encoder",
        ("dhs[:, -1, :] = dh", "dhs[:, 0, :] = dh", "B", ""),
        ("dhs[:, -1, :] = dh", "dhs[:, :, :] = dh[:, np.newaxis]", "B", ""),
        ("return hs[:, -1, :]", "return hs[:, 0, :]", "FB", ""),
        ("return self.embed.backward(dout)", "return None", "B", "dropped"),
        ("stateful=False", "stateful=True", "P", "state-kept"),
    ),
    *_faults(
        "Decoder",
        ("self.embed.backward(dout)\n", "pass\n", "B", "dropped"),
        ("return self.lstm.dh", "return dout[:, 0]", "B", "shape axis"),
        ("self.lstm.set_state(h)", "self.lstm.reset_state()", "FB", "unused"),
        ("self.lstm.set_state(h)", "self.lstm.set_state(h, h)", "FB", ""),
        ("return self.lstm.dh", "return self.lstm.dh * 2", "B", "factor doubled"),
    ),
    *_faults(
        "PeekyDecoder",
        ("dhs = dhs0 + dhs1", "dhs = dhs0", "B", "dropped"),
        ("dh = self.lstm.dh + np.sum(dhs, axis=1)", "dh = np.sum(dhs, axis=1)", "B", "dropped first-step"),
        ("dh = self.lstm.dh + np.sum(dhs, axis=1)", "dh = self.lstm.dh + np.mean(dhs, axis=1)", "B", ""),
        ("dh = self.lstm.dh + np.sum(dhs, axis=1)", "dh = self.lstm.dh + dhs[:, -1]", "B", "last-step"),
        ("np.concatenate((hs, out), axis=2)\n        score",
         "np.concatenate((out, hs), axis=2)\n        score", "FB", ""),
    ),
    *_faults(
        "Seq2seq",
        ("return self.encoder.backward(dh)", "return None", "B", "dropped"),
        ("return self.encoder.backward(dh)", "return self.encoder.backward(-dh)", "B", "sign"),
        ("ts[:, :-1], ts[:, 1:]", "ts[:, :-1], ts[:, :-1]", "F", ""),
        ("dout = self.softmax.backward(dout)", "dout = self.softmax.backward(1)", "B", "linear"),
    ),
    *_faults(
        "PeekySeq2seq",
        ("return self.encoder.backward(dh)", "return self.encoder.backward(2 * dh)", "B", "factor doubled"),
        where="Seq2seq",
    ),
    *_faults(
        "AttentionEncoder",
        ("dout = self.lstm.backward(dhs)", "dhs = dhs.copy(); dhs[:, :-1] = 0; dout = self.lstm.backward(dhs)", "B",
         "last-step"),
        ("return self.lstm.forward(xs)", "return self.lstm.forward(xs[:, ::-1])", "FB", "flipped"),
        ("return self.embed.backward(dout)", "return self.embed.backward(dhs.mean() * dout)", "B", "linear factor"),
    ),
    *_faults(
        "AttentionDecoder",
        ("denc_hs[:, -1] = denc_hs[:, -1] + dh\n", "pass\n", "B", "dropped"),
        ("denc_hs[:, -1] = denc_hs[:, -1] + dh", "denc_hs[:, -1] = dh", "B", "dropped"),
        ("denc_hs[:, -1] = denc_hs[:, -1] + dh", "denc_hs[:, 0] = denc_hs[:, 0] + dh", "B", ""),
        ("ddec_hs = ddec_hs0 + ddec_hs1", "ddec_hs = ddec_hs0", "B", "dropped"),
        ("np.concatenate((c, dec_hs), axis=2)", "np.concatenate((dec_hs, c), axis=2)", "FB", ""),
    ),
    *_faults(
        "AttentionSeq2seq",
        ("return self.encoder.backward(dh)", "return self.encoder.backward(dh / len(dh))", "B", "1/N"),
        where="Seq2seq",
    ),
]
