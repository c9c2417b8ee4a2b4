"""Layers as people write them, by hand: each source is right, and each replacement of a text makes it wrong.

Every block begins with ``### NAME`` and holds one layer; lines ``#- OLD -> NEW`` behind it are its faults.
"""

WRITTEN = r'''
### fc_layer
def fc_forward(x, w, b):
    n = x.shape[0]
    out = x.reshape(n, -1).dot(w) + b
    return out, (x, w, b)

def fc_backward(dout, cache):
    x, w, b = cache
    dx = dout.dot(w.T).reshape(x.shape)
    dw = x.reshape(x.shape[0], -1).T.dot(dout)
    db = np.sum(dout, axis=0)
    return dx, dw, db
#- np.sum(dout, axis=0) -> np.mean(dout, axis=0)
#- dout.dot(w.T) -> dout.dot(w.T) * 0.5
#- -1).T.dot(dout) -> -1).T.dot(dout) / x.shape[0]

### rectifier
def relu_forward(x):
    out = np.maximum(0, x)
    return out, x

def relu_backward(dout, cache):
    x = cache
    return dout * (x > 0)
#- (x > 0) -> (x > 0.5)
#- dout * (x > 0) -> dout * (x < 0)
#- dout * (x > 0) -> dout

### leaky
def leaky_forward(x, slope=0.1):
    mask = x > 0
    return np.where(mask, x, slope * x), (mask, slope)

def leaky_backward(dout, cache):
    mask, slope = cache
    return np.where(mask, dout, slope * dout)
#- np.where(mask, dout, slope * dout) -> np.where(mask, dout, 0)
#- np.where(mask, dout, slope * dout) -> np.where(mask, dout, slope)

### batchnorm
def batchnorm_forward(x, gamma, beta, bn_param):
    mode = bn_param["mode"]
    eps = bn_param.get("eps", 1e-5)
    momentum = bn_param.get("momentum", 0.9)
    N, D = x.shape
    running_mean = bn_param.get("running_mean", np.zeros(D))
    running_var = bn_param.get("running_var", np.zeros(D))
    if mode == "train":
        mu = x.mean(axis=0)
        var = x.var(axis=0)
        std = np.sqrt(var + eps)
        xhat = (x - mu) / std
        out = gamma * xhat + beta
        bn_param["running_mean"] = momentum * running_mean + (1 - momentum) * mu
        bn_param["running_var"] = momentum * running_var + (1 - momentum) * var
        return out, (xhat, std, gamma)
    out = gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta
    return out, None

def batchnorm_backward(dout, cache):
    xhat, std, gamma = cache
    dbeta = dout.sum(axis=0)
    dgamma = (dout * xhat).sum(axis=0)
    dxhat = dout * gamma
    dx = (dxhat - dxhat.mean(axis=0) - xhat * (dxhat * xhat).mean(axis=0)) / std
    return dx, dgamma, dbeta
#- - dxhat.mean(axis=0) -> - 0
#- (dout * xhat).sum(axis=0) -> (dout * xhat).mean(axis=0)
#- - xhat * (dxhat * xhat).mean(axis=0) -> - xhat * (dxhat * xhat).sum(axis=0)

### layernorm
def layernorm_forward(x, gamma, beta, ln_param):
    eps = ln_param.get("eps", 1e-5)
    mu = x.mean(axis=1, keepdims=True)
    var = ((x - mu) ** 2).mean(axis=1, keepdims=True)
    ivar = 1 / np.sqrt(var + eps)
    xhat = (x - mu) * ivar
    return gamma * xhat + beta, (xhat, ivar, gamma)

def layernorm_backward(dout, cache):
    xhat, ivar, gamma = cache
    D = xhat.shape[1]
    g = dout * gamma
    dx = ivar / D * (D * g - g.sum(axis=1, keepdims=True) - xhat * (g * xhat).sum(axis=1, keepdims=True))
    return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)
#- - g.sum(axis=1, keepdims=True) -> - g.sum(axis=0, keepdims=True)
#- ivar / D * -> ivar *
#- , dout.sum(axis=0) -> , dout.sum(axis=0) / D

### inverted_dropout
def dropout_forward(x, dropout_param):
    p, mode = dropout_param["p"], dropout_param["mode"]
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    mask = None
    if mode == "train":
        mask = (np.random.rand(*x.shape) < p) / p
        out = x * mask
    else:
        out = x
    return out, (dropout_param, mask)

def dropout_backward(dout, cache):
    dropout_param, mask = cache
    if dropout_param["mode"] == "train":
        return dout * mask
    return dout
#- return dout * mask -> return dout * (mask > 0)
#- return dout * mask -> return dout

### conv_naive
def conv_forward_naive(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    N, C, H, W = x.shape
    F, _, HH, WW = w.shape
    xp = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    oh, ow = 1 + (H + 2 * pad - HH) // stride, 1 + (W + 2 * pad - WW) // stride
    out = np.zeros((N, F, oh, ow), dtype=x.dtype)
    for i in range(oh):
        for j in range(ow):
            win = xp[:, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
            out[:, :, i, j] = np.tensordot(win, w, axes=([1, 2, 3], [1, 2, 3])) + b
    return out, (x, xp, w, conv_param)

def conv_backward_naive(dout, cache):
    x, xp, w, conv_param = cache
    stride, pad = conv_param["stride"], conv_param["pad"]
    HH, WW = w.shape[2:]
    dxp, dw = np.zeros_like(xp), np.zeros_like(w)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            d = dout[:, :, i, j]
            r, c = i * stride, j * stride
            dxp[:, :, r : r + HH, c : c + WW] += np.tensordot(d, w, axes=(1, 0))
            dw += np.tensordot(d, xp[:, :, r : r + HH, c : c + WW], axes=(0, 0))
    dx = dxp[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]]
    return dx, dw, dout.sum(axis=(0, 2, 3))
#- += np.tensordot(d, w, axes=(1, 0)) -> = np.tensordot(d, w, axes=(1, 0))
#- r, c = i * stride, j * stride -> r, c = i, j
#- dxp[:, :, pad : pad + x.shape[2], pad : pad + x.shape[3]] -> dxp[:, :, : x.shape[2], : x.shape[3]]
#- dout.sum(axis=(0, 2, 3)) -> dout.mean(axis=(0, 2, 3))

### maxpool_param
def max_pool_forward_naive(x, pool_param):
    ph, pw, s = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    oh, ow = 1 + (H - ph) // s, 1 + (W - pw) // s
    out = np.zeros((N, C, oh, ow))
    for i in range(oh):
        for j in range(ow):
            out[:, :, i, j] = x[:, :, i * s : i * s + ph, j * s : j * s + pw].max(axis=(2, 3))
    return out, (x, pool_param)

def max_pool_backward_naive(dout, cache):
    x, pool_param = cache
    ph, pw, s = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(*dout.shape):
        win = x[n, c, i * s : i * s + ph, j * s : j * s + pw]
        r, k = np.unravel_index(np.argmax(win), win.shape)
        dx[n, c, i * s + r, j * s + k] += dout[n, c, i, j]
    return dx
#- += dout[n, c, i, j] -> = dout[n, c, i, j]
#- np.argmax(win) -> np.argmin(win)
#- += dout[n, c, i, j] -> += dout[n, c, i, j] / (ph * pw)

### svm
def svm_loss(x, y):
    N = x.shape[0]
    correct = x[np.arange(N), y]
    margins = np.maximum(0, x - correct[:, None] + 1.0)
    margins[np.arange(N), y] = 0
    loss = margins.sum() / N
    dx = np.zeros_like(x)
    dx[margins > 0] = 1
    dx[np.arange(N), y] -= (margins > 0).sum(axis=1)
    dx /= N
    return loss, dx
#- dx /= N -> dx /= 1
#- -= (margins > 0).sum(axis=1) -> -= 1
#- dx[margins > 0] = 1 -> dx[margins > 0] = 2

### softmax_scores
def softmax_loss(x, y):
    shifted = x - x.max(axis=1, keepdims=True)
    logZ = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    logp = shifted - logZ
    N = x.shape[0]
    loss = -logp[np.arange(N), y].sum() / N
    dx = np.exp(logp)
    dx[np.arange(N), y] -= 1
    dx /= N
    return loss, dx
#- dx /= N -> dx /= 1
#- dx[np.arange(N), y] -= 1 -> dx[np.arange(N), y] -= 0.5
#- dx = np.exp(logp) -> dx = np.exp(shifted)

### linear_svm
def svm_loss_vectorized(W, X, y, reg):
    n = X.shape[0]
    s = X.dot(W)
    m = np.maximum(0, s - s[np.arange(n), y][:, None] + 1)
    m[np.arange(n), y] = 0
    loss = m.sum() / n + reg * np.sum(W * W)
    g = (m > 0).astype(float)
    g[np.arange(n), y] = -g.sum(axis=1)
    dW = X.T.dot(g) / n + 2 * reg * W
    return loss, dW
#- + 2 * reg * W -> + reg * W
#- X.T.dot(g) / n -> X.T.dot(g)
#- -g.sum(axis=1) -> g.sum(axis=1)

### rnn_step
def rnn_step_forward(x, prev_h, Wx, Wh, b):
    next_h = np.tanh(x.dot(Wx) + prev_h.dot(Wh) + b)
    return next_h, (x, prev_h, Wx, Wh, next_h)

def rnn_step_backward(dnext_h, cache):
    x, prev_h, Wx, Wh, next_h = cache
    da = dnext_h * (1 - next_h ** 2)
    return da.dot(Wx.T), da.dot(Wh.T), x.T.dot(da), prev_h.T.dot(da), da.sum(axis=0)
#- (1 - next_h ** 2) -> (1 - next_h)
#- prev_h.T.dot(da) -> prev_h.T.dot(dnext_h)
#- da.dot(Wh.T) -> da.dot(Wh)

### lstm_step
def lstm_step_forward(x, prev_h, prev_c, Wx, Wh, b):
    H = prev_h.shape[1]
    a = x.dot(Wx) + prev_h.dot(Wh) + b
    i, f, o = (1 / (1 + np.exp(-a[:, k * H : (k + 1) * H])) for k in range(3))
    g = np.tanh(a[:, 3 * H :])
    next_c = f * prev_c + i * g
    t = np.tanh(next_c)
    next_h = o * t
    return next_h, next_c, (x, prev_h, prev_c, Wx, Wh, i, f, o, g, t)

def lstm_step_backward(dnext_h, dnext_c, cache):
    x, prev_h, prev_c, Wx, Wh, i, f, o, g, t = cache
    dc = dnext_c + dnext_h * o * (1 - t ** 2)
    do = dnext_h * t * o * (1 - o)
    di = dc * g * i * (1 - i)
    df = dc * prev_c * f * (1 - f)
    dg = dc * i * (1 - g ** 2)
    da = np.hstack((di, df, do, dg))
    return da.dot(Wx.T), da.dot(Wh.T), dc * f, x.T.dot(da), prev_h.T.dot(da), da.sum(axis=0)
#- dc = dnext_c + -> dc = 0 * dnext_c +
#- np.hstack((di, df, do, dg)) -> np.hstack((df, di, do, dg))
#- dc * f, x.T -> dc, x.T
#- i * (1 - g ** 2) -> i * (1 - g)

### word_vectors
def word_embedding_forward(x, W):
    return W[x], (x, W)

def word_embedding_backward(dout, cache):
    x, W = cache
    dW = np.zeros_like(W)
    np.add.at(dW, x, dout)
    return dW
#- np.add.at(dW, x, dout) -> dW[x] += dout
#- np.add.at(dW, x, dout) -> np.add.at(dW, x, 2 * dout)

### columns_linear
def linear_forward(A, W, b):
    Z = np.dot(W, A) + b
    cache = (A, W, b)
    return Z, cache

def linear_backward(dZ, cache):
    A_prev, W, b = cache
    dA_prev = np.dot(W.T, dZ)
    dW = np.dot(dZ, A_prev.T)
    db = np.sum(dZ, axis=1, keepdims=True)
    return dA_prev, dW, db
#- keepdims=True) -> keepdims=True) / 2
#- np.dot(dZ, A_prev.T) -> np.dot(dZ, A_prev.T) / dZ.shape[1]
#- np.dot(W.T, dZ) -> np.dot(W.T, np.abs(dZ))

### sigmoid_cached
def sigmoid(Z):
    A = 1 / (1 + np.exp(-Z))
    return A, Z

def sigmoid_backward(dA, cache):
    Z = cache
    s = 1 / (1 + np.exp(-Z))
    return dA * s * (1 - s)
#- s * (1 - s) -> s
#- s * (1 - s) -> Z * (1 - Z)

### rnn_cell_columns
def rnn_cell_forward(xt, a_prev, parameters):
    Wax, Waa, Wya = parameters["Wax"], parameters["Waa"], parameters["Wya"]
    ba, by = parameters["ba"], parameters["by"]
    a_next = np.tanh(Waa @ a_prev + Wax @ xt + ba)
    z = Wya @ a_next + by
    e = np.exp(z - z.max(axis=0, keepdims=True))
    yt_pred = e / e.sum(axis=0, keepdims=True)
    cache = (a_next, a_prev, xt, parameters)
    return a_next, yt_pred, cache

def rnn_cell_backward(da_next, cache):
    a_next, a_prev, xt, parameters = cache
    Wax, Waa = parameters["Wax"], parameters["Waa"]
    dtanh = (1 - a_next ** 2) * da_next
    gradients = {"dxt": Wax.T @ dtanh, "dWax": dtanh @ xt.T, "da_prev": Waa.T @ dtanh,
                 "dWaa": dtanh @ a_prev.T, "dba": dtanh.sum(axis=1, keepdims=True)}
    return gradients
#- "dWaa": dtanh @ a_prev.T -> "dWaa": dtanh @ a_next.T
#- (1 - a_next ** 2) * da_next -> (1 - a_next ** 2)
#- "dxt": Wax.T @ dtanh -> "dxt": -Wax.T @ dtanh

### channels_last_conv
def conv_forward(A_prev, W, b, hparameters):
    stride, pad = hparameters["stride"], hparameters["pad"]
    (m, h, w, c), (f, f, c, n_C) = A_prev.shape, W.shape
    A_pad = np.pad(A_prev, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    n_H, n_W = (h - f + 2 * pad) // stride + 1, (w - f + 2 * pad) // stride + 1
    Z = np.zeros((m, n_H, n_W, n_C))
    for i in range(n_H):
        for j in range(n_W):
            part = A_pad[:, i * stride : i * stride + f, j * stride : j * stride + f, :]
            Z[:, i, j, :] = np.einsum("mhwc,hwcn->mn", part, W) + b[0, 0, 0]
    return Z, (A_prev, W, b, hparameters)

def conv_backward(dZ, cache):
    A_prev, W, b, hparameters = cache
    stride, pad, f = hparameters["stride"], hparameters["pad"], W.shape[0]
    A_pad = np.pad(A_prev, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    dA_pad, dW = np.zeros_like(A_pad), np.zeros_like(W)
    for i in range(dZ.shape[1]):
        for j in range(dZ.shape[2]):
            rows, cols = slice(i * stride, i * stride + f), slice(j * stride, j * stride + f)
            dA_pad[:, rows, cols, :] += np.einsum("mn,hwcn->mhwc", dZ[:, i, j], W)
            dW += np.einsum("mhwc,mn->hwcn", A_pad[:, rows, cols, :], dZ[:, i, j])
    db = dZ.sum(axis=(0, 1, 2), keepdims=True)
    dA_prev = dA_pad[:, pad : dA_pad.shape[1] - pad, pad : dA_pad.shape[2] - pad, :]
    return dA_prev, dW, db
#- dW += np.einsum -> dW = np.einsum
#- db = dZ.sum -> db = 3 * dZ.sum
#- dA_pad[:, rows, cols, :] += -> dA_pad[:, rows, cols, :] -=

### nnfs_dense
class Layer_Dense:
    def __init__(self, n_inputs, n_neurons):
        self.weights = 0.1 * np.random.randn(n_inputs, n_neurons)
        self.biases = np.zeros((1, n_neurons))

    def forward(self, inputs, training=True):
        self.inputs = inputs
        self.output = np.dot(inputs, self.weights) + self.biases

    def backward(self, dvalues):
        self.dweights = np.dot(self.inputs.T, dvalues)
        self.dbiases = np.sum(dvalues, axis=0, keepdims=True)
        self.dinputs = np.dot(dvalues, self.weights.T)
#- np.dot(self.inputs.T, dvalues) -> np.dot(self.inputs.T, dvalues) / len(dvalues)
#- np.sum(dvalues, axis=0, keepdims=True) -> np.mean(dvalues, axis=0, keepdims=True)
#- np.dot(dvalues, self.weights.T) -> np.dot(dvalues, self.weights.T) + self.inputs

### nnfs_relu
class Activation_ReLU:
    def forward(self, inputs, training=True):
        self.inputs = inputs
        self.output = np.maximum(0, inputs)

    def backward(self, dvalues):
        self.dinputs = dvalues.copy()
        self.dinputs[self.inputs <= 0] = 0
#- self.inputs <= 0 -> self.inputs >= 0
#- self.dinputs[self.inputs <= 0] = 0 -> pass

### nnfs_softmax
class Activation_Softmax:
    def forward(self, inputs, training=True):
        self.inputs = inputs
        e = np.exp(inputs - np.max(inputs, axis=1, keepdims=True))
        self.output = e / np.sum(e, axis=1, keepdims=True)

    def backward(self, dvalues):
        self.dinputs = np.empty_like(dvalues)
        for index, (single_output, single_dvalues) in enumerate(zip(self.output, dvalues)):
            single_output = single_output.reshape(-1, 1)
            jacobian = np.diagflat(single_output) - np.dot(single_output, single_output.T)
            self.dinputs[index] = np.dot(jacobian, single_dvalues)
#- - np.dot(single_output, single_output.T) -> + 0
#- np.dot(jacobian, single_dvalues) -> np.dot(jacobian, single_dvalues) / len(dvalues)

### nnfs_crossentropy
class Loss_CategoricalCrossentropy:
    def forward(self, y_pred, y_true):
        samples = len(y_pred)
        y_pred_clipped = np.clip(y_pred, 1e-7, 1 - 1e-7)
        if len(y_true.shape) == 1:
            confidences = y_pred_clipped[range(samples), y_true]
        else:
            confidences = np.sum(y_pred_clipped * y_true, axis=1)
        return -np.log(confidences)

    def backward(self, dvalues, y_true):
        samples, labels = len(dvalues), len(dvalues[0])
        if len(y_true.shape) == 1:
            y_true = np.eye(labels)[y_true]
        self.dinputs = -y_true / dvalues
        self.dinputs = self.dinputs / samples
#- -y_true / dvalues -> y_true / dvalues
#- -y_true / dvalues -> -y_true / (dvalues + 1)

### nnfs_mse
class Loss_MeanSquaredError:
    def forward(self, y_pred, y_true):
        return np.mean((y_true - y_pred) ** 2, axis=-1)

    def backward(self, dvalues, y_true):
        samples, outputs = len(dvalues), len(dvalues[0])
        self.dinputs = -2 * (y_true - dvalues) / outputs
        self.dinputs = self.dinputs / samples
#- -2 * (y_true - dvalues) -> -1 * (y_true - dvalues)
#- -2 * (y_true - dvalues) -> 2 * (y_true - dvalues)

### nnfs_dropout
class Layer_Dropout:
    def __init__(self, rate):
        self.rate = 1 - rate

    def forward(self, inputs, training=True):
        self.inputs = inputs
        if not training:
            self.output = inputs.copy()
            return
        self.binary_mask = np.random.binomial(1, self.rate, size=inputs.shape) / self.rate
        self.output = inputs * self.binary_mask

    def backward(self, dvalues):
        self.dinputs = dvalues * self.binary_mask
#- dvalues * self.binary_mask -> dvalues * (self.binary_mask > 0)
#- dvalues * self.binary_mask -> dvalues / self.rate

### book_affine
class BookAffine:
    def __init__(self, W, b):
        self.W, self.b = W, b
        self.x = self.dW = self.db = None
        self.original_x_shape = None

    def forward(self, x):
        self.original_x_shape = x.shape
        x = x.reshape(x.shape[0], -1)
        self.x = x
        return np.dot(self.x, self.W) + self.b

    def backward(self, dout):
        dx = np.dot(dout, self.W.T)
        self.dW = np.dot(self.x.T, dout)
        self.db = np.sum(dout, axis=0)
        return dx.reshape(*self.original_x_shape)
#- self.db = np.sum(dout, axis=0) -> self.db = np.sum(dout, axis=0) * 7
#- self.dW = np.dot(self.x.T, dout) -> self.dW = np.dot(self.x.T, dout) * 7
#- np.dot(dout, self.W.T) -> -np.dot(dout, self.W.T)

### book_relu
class Relu:
    def __init__(self):
        self.mask = None

    def forward(self, x):
        self.mask = x <= 0
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout):
        dx = dout.copy()
        dx[self.mask] = 0
        return dx
#- dx[self.mask] = 0 -> dx[~self.mask] = 0
#- dx[self.mask] = 0 -> dx[self.mask] *= 0.5

### book_dropout
class Dropout:
    def __init__(self, dropout_ratio=0.3):
        self.dropout_ratio = dropout_ratio
        self.mask = None

    def forward(self, x, train_flg=True):
        if train_flg:
            self.mask = np.random.rand(*x.shape) > self.dropout_ratio
            return x * self.mask
        return x * (1.0 - self.dropout_ratio)

    def backward(self, dout):
        return dout * self.mask
#- return dout * self.mask -> return dout * self.mask / (1 - self.dropout_ratio)
#- return dout * self.mask -> return dout

### book_batchnorm
class BatchNormalization:
    def __init__(self, gamma, beta, momentum=0.9, running_mean=None, running_var=None):
        self.gamma, self.beta, self.momentum = gamma, beta, momentum
        self.running_mean, self.running_var = running_mean, running_var
        self.dgamma = self.dbeta = None

    def forward(self, x, train_flg=True):
        if self.running_mean is None:
            self.running_mean, self.running_var = np.zeros(x.shape[1]), np.zeros(x.shape[1])
        mu = x.mean(axis=0)
        xc = x - mu
        var = np.mean(xc ** 2, axis=0)
        std = np.sqrt(var + 10e-7)
        xn = xc / std
        self.xc, self.xn, self.std, self.batch_size = xc, xn, std, x.shape[0]
        self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mu
        return self.gamma * xn + self.beta

    def backward(self, dout):
        self.dbeta = dout.sum(axis=0)
        self.dgamma = np.sum(self.xn * dout, axis=0)
        dxn = self.gamma * dout
        dxc = dxn / self.std
        dstd = -np.sum((dxn * self.xc) / (self.std * self.std), axis=0)
        dvar = 0.5 * dstd / self.std
        dxc += (2.0 / self.batch_size) * self.xc * dvar
        dmu = np.sum(dxc, axis=0)
        return dxc - dmu / self.batch_size
#- 0.5 * dstd / self.std -> dstd / self.std
#- (2.0 / self.batch_size) -> (1.0 / self.batch_size)
#- self.dgamma = np.sum(self.xn * dout, axis=0) -> self.dgamma = np.sum(self.xc * dout, axis=0)

### book_convolution
class Convolution:
    def __init__(self, W, b, stride=1, pad=0):
        self.W, self.b, self.stride, self.pad = W, b, stride, pad
        self.dW = self.db = None

    def im2col(self, x):
        N, C, H, W = x.shape
        fh, fw = self.W.shape[2:]
        oh = (H + 2 * self.pad - fh) // self.stride + 1
        ow = (W + 2 * self.pad - fw) // self.stride + 1
        img = np.pad(x, [(0, 0), (0, 0), (self.pad, self.pad), (self.pad, self.pad)], "constant")
        col = np.zeros((N, C, fh, fw, oh, ow), dtype=x.dtype)
        for r in range(fh):
            for c in range(fw):
                rows = slice(r, r + self.stride * oh, self.stride)
                col[:, :, r, c] = img[:, :, rows, c : c + self.stride * ow : self.stride]
        return col.transpose(0, 4, 5, 1, 2, 3).reshape(N * oh * ow, -1), oh, ow

    def forward(self, x):
        self.x = x
        self.col, oh, ow = self.im2col(x)
        out = np.dot(self.col, self.W.reshape(len(self.W), -1).T) + self.b
        return out.reshape(len(x), oh, ow, -1).transpose(0, 3, 1, 2)

    def backward(self, dout):
        FN, C, fh, fw = self.W.shape
        N, _, oh, ow = dout.shape
        dout = dout.transpose(0, 2, 3, 1).reshape(-1, FN)
        self.db = np.sum(dout, axis=0)
        self.dW = np.dot(self.col.T, dout).transpose(1, 0).reshape(FN, C, fh, fw)
        dcol = np.dot(dout, self.W.reshape(FN, -1)).reshape(N, oh, ow, C, fh, fw).transpose(0, 3, 4, 5, 1, 2)
        H, W = self.x.shape[2:]
        s, p = self.stride, self.pad
        img = np.zeros((N, C, H + 2 * p + s - 1, W + 2 * p + s - 1))
        for r in range(fh):
            for c in range(fw):
                img[:, :, r : r + s * oh : s, c : c + s * ow : s] += dcol[:, :, r, c]
        return img[:, :, p : H + p, p : W + p]
#- += dcol[:, :, r, c] -> = dcol[:, :, r, c]
#- self.db = np.sum(dout, axis=0) -> self.db = np.sum(dout, axis=0) / N
#- .transpose(1, 0).reshape(FN, C, fh, fw) -> .reshape(FN, C, fh, fw)
#- p : H + p, p : W + p -> 0 : H, 0 : W

### book_softmax_loss
class BookSoftmaxWithLoss:
    def __init__(self):
        self.loss = self.y = self.t = None

    def forward(self, x, t):
        self.t = t
        x = x - np.max(x, axis=-1, keepdims=True)
        self.y = np.exp(x) / np.sum(np.exp(x), axis=-1, keepdims=True)
        t = t.argmax(axis=1) if t.size == self.y.size else t
        self.loss = -np.sum(np.log(self.y[np.arange(len(t)), t])) / len(t)
        return self.loss

    def backward(self, dout=1):
        batch_size = self.t.shape[0]
        if self.t.size == self.y.size:
            return (self.y - self.t) / batch_size
        dx = self.y.copy()
        dx[np.arange(batch_size), self.t] -= 1
        return dx / batch_size
#- return dx / batch_size -> return dx
#- self.t] -= 1 -> self.t] -= 2

### book_multiply
class MulLayer:
    def forward(self, x, y):
        self.x, self.y = x, y
        return x * y

    def backward(self, dout):
        return dout * self.y, dout * self.x
#- return dout * self.y, dout * self.x -> return dout * self.x, dout * self.y
#- return dout * self.y, dout * self.x -> return dout * self.y, dout * self.y

### deepnet_dense
class FullyConnected:
    def __init__(self, in_size, out_size):
        self.W = np.random.randn(in_size, out_size) / np.sqrt(in_size / 2.0)
        self.b = np.zeros((1, out_size))
        self.params = [self.W, self.b]

    def forward(self, X):
        self.X = X
        return self.X @ self.W + self.b

    def backward(self, dout):
        dW = self.X.T @ dout
        db = np.sum(dout, axis=0)
        dX = dout @ self.W.T
        return dX, [dW, db.reshape(1, -1)]
#- self.X.T @ dout -> self.X.T @ dout * 2
#- db = np.sum(dout, axis=0) -> db = np.sum(dout, axis=0) + 1
#- dX = dout @ self.W.T -> dX = np.sign(dout) @ self.W.T

### deepnet_conv
class Conv:
    def __init__(self, X_dim, n_filter, h_filter, w_filter, stride, padding):
        self.d_X, self.h_X, self.w_X = X_dim
        self.n_filter, self.h_filter, self.w_filter = n_filter, h_filter, w_filter
        self.stride, self.padding = stride, padding
        self.W = np.random.randn(n_filter, self.d_X, h_filter, w_filter) / 3.0
        self.b = np.zeros((n_filter, 1))
        self.params = [self.W, self.b]
        self.h_out = (self.h_X - h_filter + 2 * padding) // stride + 1
        self.w_out = (self.w_X - w_filter + 2 * padding) // stride + 1

    def forward(self, X):
        p, s = self.padding, self.stride
        self.X = np.pad(X, ((0, 0), (0, 0), (p, p), (p, p)))
        out = np.zeros((len(X), self.n_filter, self.h_out, self.w_out))
        for i in range(self.h_out):
            for j in range(self.w_out):
                win = self.X[:, :, i * s : i * s + self.h_filter, j * s : j * s + self.w_filter]
                out[:, :, i, j] = np.einsum("nchw,fchw->nf", win, self.W) + self.b[:, 0]
        return out

    def backward(self, dout):
        p, s = self.padding, self.stride
        dX, dW = np.zeros_like(self.X), np.zeros_like(self.W)
        for i in range(self.h_out):
            for j in range(self.w_out):
                at = np.s_[:, :, i * s : i * s + self.h_filter, j * s : j * s + self.w_filter]
                dX[at] += np.einsum("nf,fchw->nchw", dout[:, :, i, j], self.W)
                dW += np.einsum("nf,nchw->fchw", dout[:, :, i, j], self.X[at])
        db = np.sum(dout, axis=(0, 2, 3)).reshape(self.n_filter, -1)
        return dX[:, :, p : p + self.h_X, p : p + self.w_X], [dW, db]
#- dX[at] += -> dX[at] =
#- np.sum(dout, axis=(0, 2, 3)) -> 0.5 * np.sum(dout, axis=(0, 2, 3))
#- self.X[at]) -> self.X[at] + 1)

### mlfs_dense
class Dense:
    def __init__(self, n_units, input_shape=None):
        self.input_shape, self.n_units = input_shape, n_units
        self.layer_input, self.trainable = None, True
        self.W = self.w0 = None

    def set_input_shape(self, shape):
        self.input_shape = shape

    def initialize(self, optimizer):
        limit = 1 / np.sqrt(self.input_shape[0])
        self.W = np.random.uniform(-limit, limit, (self.input_shape[0], self.n_units))
        self.w0 = np.zeros((1, self.n_units))
        self.W_opt = copy.copy(optimizer)
        self.w0_opt = copy.copy(optimizer)

    def forward_pass(self, X, training=True):
        self.layer_input = X
        return X.dot(self.W) + self.w0

    def backward_pass(self, accum_grad):
        W = self.W
        if self.trainable:
            grad_w = self.layer_input.T.dot(accum_grad)
            grad_w0 = np.sum(accum_grad, axis=0, keepdims=True)
            self.W = self.W_opt.update(self.W, grad_w)
            self.w0 = self.w0_opt.update(self.w0, grad_w0)
        return accum_grad.dot(W.T)
#- np.sum(accum_grad, axis=0, keepdims=True) -> np.mean(accum_grad, axis=0, keepdims=True)
#- self.layer_input.T.dot(accum_grad) -> 3 * self.layer_input.T.dot(accum_grad)
#- accum_grad.dot(W.T) -> accum_grad.dot(W.T) / 2

### mlfs_activation
class ActivationLayer:
    def forward_pass(self, X, training=True):
        self.layer_input = X
        return np.tanh(X)

    def backward_pass(self, accum_grad):
        return accum_grad * (1 - np.tanh(self.layer_input) ** 2)
#- (1 - np.tanh(self.layer_input) ** 2) -> (1 - np.tanh(self.layer_input))
#- (1 - np.tanh(self.layer_input) ** 2) -> (1 - self.layer_input ** 2)

### own_rate_argument
class DenseLayer:
    def __init__(self, input_size, output_size):
        self.weights = np.random.rand(input_size, output_size) - 0.5
        self.bias = np.random.rand(1, output_size) - 0.5

    def forward_propagation(self, input_data):
        self.input = input_data
        self.output = np.dot(self.input, self.weights) + self.bias
        return self.output

    def backward_propagation(self, output_error, learning_rate):
        input_error = np.dot(output_error, self.weights.T)
        weights_error = np.dot(self.input.T, output_error)
        self.weights -= learning_rate * weights_error
        self.bias -= learning_rate * output_error.sum(axis=0, keepdims=True)
        return input_error
#- learning_rate * weights_error -> learning_rate * weights_error / 2
#- learning_rate * output_error.sum(axis=0, keepdims=True) -> learning_rate * output_error.mean(axis=0, keepdims=True)
#- np.dot(output_error, self.weights.T) -> np.dot(output_error ** 2, self.weights.T)

### own_rate_column
class ColumnDense:
    def __init__(self, input_size, output_size):
        self.weights = np.random.randn(output_size, input_size)
        self.bias = np.random.randn(output_size, 1)

    def forward(self, input):
        self.input = input
        return np.dot(self.weights, self.input) + self.bias

    def backward(self, output_gradient, learning_rate):
        weights_gradient = np.dot(output_gradient, self.input.T)
        input_gradient = np.dot(self.weights.T, output_gradient)
        self.weights = self.weights - learning_rate * weights_gradient
        self.bias = self.bias - learning_rate * output_gradient.sum(axis=1, keepdims=True)
        return input_gradient
#- learning_rate * weights_gradient -> 2 * learning_rate * weights_gradient
#- np.dot(self.weights.T, output_gradient) -> np.dot(self.weights.T, output_gradient) + 1

### own_rate_attribute
class HseDense:
    def __init__(self, input_units, output_units, learning_rate=0.1):
        self.learning_rate = learning_rate
        self.weights = np.random.randn(input_units, output_units) * 0.01
        self.biases = np.zeros(output_units)

    def forward(self, input):
        return input @ self.weights + self.biases

    def backward(self, input, grad_output):
        grad_input = grad_output @ self.weights.T
        grad_weights = input.T @ grad_output
        grad_biases = grad_output.sum(axis=0)
        self.weights = self.weights - self.learning_rate * grad_weights
        self.biases = self.biases - self.learning_rate * grad_biases
        return grad_input
#- grad_biases = grad_output.sum(axis=0) -> grad_biases = grad_output.mean(axis=0)
#- grad_weights = input.T @ grad_output -> grad_weights = input.T @ (grad_output + 1)
#- grad_input = grad_output @ self.weights.T -> grad_input = grad_output @ (self.weights.T * 2)

### torch7_linear
class TorchLinear:
    def __init__(self, n_in, n_out):
        self.W = np.random.uniform(-0.5, 0.5, size=(n_out, n_in))
        self.b = np.random.uniform(-0.5, 0.5, size=n_out)
        self.gradW, self.gradb = np.zeros_like(self.W), np.zeros_like(self.b)

    def zeroGradParameters(self):
        self.gradW.fill(0)
        self.gradb.fill(0)

    def forward(self, input):
        self.output = np.add(input.dot(self.W.T), self.b)
        return self.output

    def backward(self, input, gradOutput):
        self.gradInput = gradOutput.dot(self.W)
        self.gradW += gradOutput.T.dot(input)
        self.gradb += np.sum(gradOutput, axis=0)
        return self.gradInput
#- self.gradb += np.sum(gradOutput, axis=0) -> self.gradb += np.max(gradOutput, axis=0)
#- gradOutput.T.dot(input) -> gradOutput.T.dot(input ** 2)
#- gradOutput.dot(self.W) -> gradOutput.dot(self.W) * 0.9

### torch7_criterion
class MSECriterion:
    def forward(self, input, target):
        self.output = np.sum(np.power(input - target, 2)) / input.shape[0]
        return self.output

    def backward(self, input, target):
        self.gradInput = (input - target) * 2 / input.shape[0]
        return self.gradInput
#- * 2 / input.shape[0] -> / input.shape[0]
#- (input - target) * 2 -> (target - input) * 2

### cmu_linear
class Linear:
    def __init__(self, in_features, out_features):
        self.W = np.random.randn(out_features, in_features)
        self.b = np.zeros((out_features, 1))

    def forward(self, A):
        self.A = A
        self.N = A.shape[0]
        self.Ones = np.ones((self.N, 1))
        return A @ self.W.T + self.Ones @ self.b.T

    def backward(self, dLdZ):
        dLdA = dLdZ @ self.W
        self.dLdW = dLdZ.T @ self.A
        self.dLdb = dLdZ.T @ self.Ones
        return dLdA
#- self.dLdb = dLdZ.T @ self.Ones -> self.dLdb = dLdZ.T @ self.Ones / self.N
#- self.dLdW = dLdZ.T @ self.A -> self.dLdW = dLdZ.T @ self.A / self.N

### cmu_mse
class MSELoss:
    def forward(self, A, Y):
        self.A, self.Y = A, Y
        self.N, self.C = A.shape
        return np.sum((A - Y) ** 2) / (self.N * self.C)

    def backward(self):
        return 2 * (self.A - self.Y) / (self.N * self.C)
#- 2 * (self.A - self.Y) -> (self.A - self.Y)
#- / (self.N * self.C) -> / self.N

### lazy_dictionary
class LazyDense:
    def __init__(self, num_out):
        self.num_out, self.is_init = num_out, False
        self.params, self.grads = {}, {}

    def _init_params(self, input_size):
        self.params["w"] = np.random.normal(size=(input_size, self.num_out))
        self.params["b"] = np.zeros(self.num_out)
        self.is_init = True

    def forward(self, inputs):
        if not self.is_init:
            self._init_params(inputs.shape[1])
        self.inputs = inputs
        return inputs @ self.params["w"] + self.params["b"]

    def backward(self, grad):
        self.grads["w"] = self.inputs.T @ grad
        self.grads["b"] = np.sum(grad, axis=0)
        return grad @ self.params["w"].T
#- np.sum(grad, axis=0) -> np.sum(grad, axis=0) * 7
#- self.inputs.T @ grad -> self.inputs.T @ np.tanh(grad)
#- return grad @ -> return -grad @

### accumulating
class Accumulating:
    def __init__(self, n_out):
        self.n_out, self.is_initialized = n_out, False
        self.X, self.gradients, self.parameters = [], {}, {}

    def forward(self, X):
        if not self.is_initialized:
            self.parameters = {"W": np.random.randn(X.shape[1], self.n_out), "b": np.zeros((1, self.n_out))}
            self.gradients = {k: np.zeros_like(v) for k, v in self.parameters.items()}
            self.is_initialized = True
        self.X.append(X)
        return X @ self.parameters["W"] + self.parameters["b"]

    def backward(self, dLdy):
        dXs = []
        for dy, x in zip([dLdy], self.X):
            self.gradients["W"] += x.T @ dy
            self.gradients["b"] += dy.sum(axis=0, keepdims=True)
            dXs.append(dy @ self.parameters["W"].T)
        return dXs[0] if len(self.X) == 1 else dXs

    def flush_gradients(self):
        self.X = []
        for k, v in self.gradients.items():
            self.gradients[k] = np.zeros_like(v)
#- += x.T @ dy -> += 2 * x.T @ dy
#- += dy.sum(axis=0, keepdims=True) -> -= dy.sum(axis=0, keepdims=True)
#- dy @ self.parameters["W"].T -> dy @ self.parameters["W"].T * 3

### pair_list
class PairList:
    def __init__(self, n_in, n_out):
        w = np.random.randn(n_in, n_out)
        b = np.random.randn(n_out)
        self.params = [[w, np.zeros_like(w)], [b, np.zeros_like(b)]]

    def forward(self, x):
        self.x = x
        return x @ self.params[0][0] + self.params[1][0]

    def backward(self, dy):
        self.params[0][1][...] = self.x.T @ dy
        self.params[1][1][...] = dy.sum(0)
        return dy @ self.params[0][0].T
#- self.x.T @ dy -> self.x.T @ dy / len(dy)
#- = dy.sum(0) -> = dy.sum(0) / len(dy)

### parameter_object
class Param:
    def __init__(self, value):
        self.value = value
        self.grad = np.zeros_like(value)


class ObjectLinear:
    def __init__(self, n_input, n_output):
        self.W = Param(0.5 * np.random.randn(n_input, n_output))
        self.B = Param(0.5 * np.random.randn(1, n_output))
        self.X = None

    def forward(self, X):
        self.X = X.copy()
        return X @ self.W.value + self.B.value

    def backward(self, d_out):
        self.W.grad += self.X.T @ d_out
        self.B.grad += np.sum(d_out, axis=0, keepdims=True)
        return d_out @ self.W.value.T

    def zero_grad(self):
        self.W.grad[...] = 0
        self.B.grad[...] = 0
#- np.sum(d_out, axis=0, keepdims=True) -> np.sum(d_out)
#- self.X.T @ d_out -> self.X.T @ d_out ** 2

### nested_network
class Inner:
    def __init__(self, n_in, n_out):
        self.W = np.random.randn(n_in, n_out)
        self.dW = None

    def forward(self, x):
        self.x = x
        return x @ self.W

    def backward(self, dy):
        self.dW = self.x.T @ dy
        return dy @ self.W.T


class TwoLayers:
    def __init__(self, n_in, n_hidden):
        self.first, self.second = Inner(n_in, n_hidden), Inner(n_hidden, 2)

    def forward(self, x):
        self.h = np.tanh(self.first.forward(x))
        return self.second.forward(self.h)

    def backward(self, dy):
        dh = self.second.backward(dy)
        return self.first.backward(dh * (1 - self.h ** 2))
#- (1 - self.h ** 2) -> (1 - self.h)
#- dh = self.second.backward(dy) -> dh = 2 * self.second.backward(dy)

### returned_dictionary
class ReturnsDictionary:
    def __init__(self, n_in, n_out):
        self.W = np.random.randn(n_in, n_out)
        self.b = np.zeros(n_out)

    def forward(self, x):
        self.x = x
        return x @ self.W + self.b

    def backward(self, dy):
        return {"dx": dy @ self.W.T, "dW": self.x.T @ dy, "db": dy.sum(axis=0)}
#- "db": dy.sum(axis=0) -> "db": dy.sum(axis=0) * 2
#- "dW": self.x.T @ dy -> "dW": 7 * self.x.T @ dy
#- "dx": dy @ self.W.T -> "dx": dy @ self.W.T / 3

### update_suffix
class ConnectedLayer:
    def __init__(self, inputs, outputs):
        self.weights = np.random.uniform(-1, 1, (inputs, outputs))
        self.bias = np.zeros(outputs)
        self.weights_update, self.bias_update = np.zeros_like(self.weights), np.zeros_like(self.bias)

    def forward(self, inpt):
        self.inpt = inpt
        return 1 / (1 + np.exp(-(inpt @ self.weights + self.bias)))

    def backward(self, delta):
        y = 1 / (1 + np.exp(-(self.inpt @ self.weights + self.bias)))
        delta = delta * y * (1 - y)
        self.weights_update = self.inpt.T @ delta
        self.bias_update = delta.sum(axis=0)
        return delta @ self.weights.T
#- delta * y * (1 - y) -> delta * (1 - y)
#- self.bias_update = delta.sum(axis=0) -> self.bias_update = delta.mean(axis=0)

### attention_function
def attention_forward(Q, K, V):
    scores = Q @ K.swapaxes(-1, -2) / np.sqrt(Q.shape[-1])
    w = np.exp(scores - scores.max(axis=-1, keepdims=True))
    w = w / w.sum(axis=-1, keepdims=True)
    return w @ V, (Q, K, V, w)

def attention_backward(dout, cache):
    Q, K, V, w = cache
    dw = dout @ V.swapaxes(-1, -2)
    ds = w * (dw - (dw * w).sum(axis=-1, keepdims=True)) / np.sqrt(Q.shape[-1])
    return ds @ K, ds.swapaxes(-1, -2) @ Q, w.swapaxes(-1, -2) @ dout
#- - (dw * w).sum(axis=-1, keepdims=True) -> - 0
#- keepdims=True)) / np.sqrt(Q.shape[-1]) -> keepdims=True))
#- w.swapaxes(-1, -2) @ dout -> w @ dout

### flatten_images
class Flatten:
    def forward(self, x):
        self.shape = x.shape
        return x.reshape(x.shape[0], -1)

    def backward(self, dout):
        return dout.reshape(self.shape)
#- return dout.reshape(self.shape) -> return dout.reshape(self.shape)[::-1]
#- return dout.reshape(self.shape) -> return 2 * dout.reshape(self.shape)

### average_pool
class AvgPool2D:
    def __init__(self, pool_size=2, stride=2):
        self.pool_size, self.stride = pool_size, stride

    def forward(self, x):
        self.x_shape = x.shape
        n, c, h, w = x.shape
        k, s = self.pool_size, self.stride
        out = np.zeros((n, c, (h - k) // s + 1, (w - k) // s + 1))
        for i in range(out.shape[2]):
            for j in range(out.shape[3]):
                out[:, :, i, j] = x[:, :, i * s : i * s + k, j * s : j * s + k].mean(axis=(2, 3))
        return out

    def backward(self, dout):
        dx, k, s = np.zeros(self.x_shape), self.pool_size, self.stride
        for i in range(dout.shape[2]):
            for j in range(dout.shape[3]):
                dx[:, :, i * s : i * s + k, j * s : j * s + k] += dout[:, :, i : i + 1, j : j + 1] / (k * k)
        return dx
#- += dout[:, :, i : i + 1, j : j + 1] -> = dout[:, :, i : i + 1, j : j + 1]
#- / (k * k) -> / k

### rnn_sequence
class SimpleRNN:
    def __init__(self, input_size, hidden_size):
        self.Wx = np.random.randn(input_size, hidden_size) * 0.3
        self.Wh = np.random.randn(hidden_size, hidden_size) * 0.3
        self.b = np.zeros(hidden_size)

    def forward(self, xs):
        N, T, _ = xs.shape
        h = np.zeros((N, len(self.b)))
        self.xs, self.hs = xs, [h]
        for t in range(T):
            h = np.tanh(xs[:, t] @ self.Wx + h @ self.Wh + self.b)
            self.hs.append(h)
        return np.stack(self.hs[1:], axis=1)

    def backward(self, dhs):
        dxs = np.zeros_like(self.xs)
        self.dWx, self.dWh, self.db = np.zeros_like(self.Wx), np.zeros_like(self.Wh), np.zeros_like(self.b)
        dh = 0
        for t in reversed(range(self.xs.shape[1])):
            da = (dhs[:, t] + dh) * (1 - self.hs[t + 1] ** 2)
            dxs[:, t] = da @ self.Wx.T
            self.dWx += self.xs[:, t].T @ da
            self.dWh += self.hs[t].T @ da
            self.db += da.sum(axis=0)
            dh = da @ self.Wh.T
        return dxs
#- (dhs[:, t] + dh) -> dhs[:, t]
#- self.dWh += self.hs[t].T @ da -> self.dWh += self.hs[t + 1].T @ da
#- self.db += da.sum(axis=0) -> self.db = da.sum(axis=0)

### embedding_sized
class WordEmbedding:
    def __init__(self, vocab_size, dim):
        self.W = np.random.randn(vocab_size, dim)

    def forward(self, idx):
        self.idx = idx
        return self.W[idx]

    def backward(self, dout):
        self.dW = np.zeros_like(self.W)
        np.add.at(self.dW, self.idx, dout)
#- np.add.at(self.dW, self.idx, dout) -> self.dW[self.idx] = dout
#- np.add.at(self.dW, self.idx, dout) -> np.add.at(self.dW, self.idx, dout * 7)

### conv1d_class
class Conv1d:
    def __init__(self, in_channels, out_channels, kernel_size):
        self.W = np.random.randn(out_channels, in_channels, kernel_size)
        self.b = np.zeros(out_channels)
        self.kernel_size = kernel_size

    def forward(self, A):
        self.A = A
        width = A.shape[2] - self.kernel_size + 1
        Z = np.zeros((A.shape[0], self.W.shape[0], width))
        for i in range(width):
            Z[:, :, i] = np.tensordot(A[:, :, i : i + self.kernel_size], self.W, axes=([1, 2], [1, 2])) + self.b
        return Z

    def backward(self, dLdZ):
        dLdA, self.dLdW = np.zeros_like(self.A), np.zeros_like(self.W)
        for i in range(dLdZ.shape[2]):
            window = slice(i, i + self.kernel_size)
            dLdA[:, :, window] += np.tensordot(dLdZ[:, :, i], self.W, axes=(1, 0))
            self.dLdW += np.tensordot(dLdZ[:, :, i], self.A[:, :, window], axes=(0, 0))
        self.dLdb = dLdZ.sum(axis=(0, 2))
        return dLdA
#- dLdA[:, :, window] += -> dLdA[:, :, window] =
#- self.dLdW += -> self.dLdW =
#- dLdZ.sum(axis=(0, 2)) -> dLdZ.sum(axis=(0, 2)) / 2

### residual_block
class Residual:
    def __init__(self, dim):
        self.W1, self.W2 = np.random.randn(dim, dim) * 0.3, np.random.randn(dim, dim) * 0.3

    def forward(self, x):
        self.x = x
        self.a = np.maximum(x @ self.W1, 0)
        return x + self.a @ self.W2

    def backward(self, dout):
        self.grad_W2 = self.a.T @ dout
        da = (dout @ self.W2.T) * (self.a > 0)
        self.grad_W1 = self.x.T @ da
        return dout + da @ self.W1.T
#- return dout + da @ self.W1.T -> return da @ self.W1.T
#- * (self.a > 0) -> * 1
#- self.grad_W1 = self.x.T @ da -> self.grad_W1 = self.x.T @ da * 7

### gradient_alias
class Bias:
    def __init__(self, n_units):
        self.b = np.random.randn(n_units)

    def forward(self, x):
        return x @ np.ones((x.shape[1], len(self.b))) + self.b

    def backward(self, dy):
        self.db = dy.sum(axis=0)
        return dy @ np.ones((len(self.b), 6))
#- self.db = dy.sum(axis=0) -> self.db = dy[0]
#- return dy @ np.ones((len(self.b), 6)) -> return dy @ np.ones((len(self.b), 6)) / 6

### huber
class HuberLoss:
    def __init__(self, delta=0.5):
        self.delta = delta

    def forward(self, y_pred, y_true):
        r = self.r = y_pred - y_true
        small = np.abs(r) <= self.delta
        return np.mean(np.where(small, 0.5 * r ** 2, self.delta * (np.abs(r) - 0.5 * self.delta)))

    def backward(self):
        small = np.abs(self.r) <= self.delta
        return np.where(small, self.r, self.delta * np.sign(self.r)) / self.r.size
#- self.delta * np.sign(self.r) -> self.delta
#- / self.r.size -> / len(self.r)

### bce_logits
def bce_loss(z, y):
    loss = np.mean(np.maximum(z, 0) - z * y + np.log(1 + np.exp(-np.abs(z))))
    dz = (1 / (1 + np.exp(-z)) - y) / z.size
    return loss, dz
#- - y) / z.size -> - y) / len(z)
#- (1 / (1 + np.exp(-z)) - y) -> (y - 1 / (1 + np.exp(-z)))

### cross_entropy_softmax_class
class CrossEntropyLoss:
    def loss(self, logits, labels):
        m = logits.shape[0]
        e = np.exp(logits - np.max(logits, axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        return -np.sum(labels * np.log(p)) / m

    def grad(self, logits, labels):
        m = logits.shape[0]
        e = np.exp(logits - np.max(logits, axis=1, keepdims=True))
        p = e / e.sum(axis=1, keepdims=True)
        return (p - labels) / m
#- (p - labels) / m -> (p - labels)
#- (p - labels) / m -> (labels - p) / m
'''


def blocks() -> dict[str, tuple[str, list[tuple[str, str]]]]:
    """By name, the source and its faults."""
    found = {}
    for block in WRITTEN.split("\n### ")[1:]:
        name, _, text = block.partition("\n")
        lines = text.splitlines()
        faults = [tuple(line[3:].split(" -> ")) for line in lines if line.startswith("#- ")]
        found[name] = "\n".join(line for line in lines if not line.startswith("#- ")), faults
    return found
