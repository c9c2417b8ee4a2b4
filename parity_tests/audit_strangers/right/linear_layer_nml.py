from abc import ABC, abstractmethod

import numpy as np


class Tanh:
    def __call__(self, z):
        return np.tanh(z)

    def grad(self, z):
        return 1 - np.tanh(z) ** 2


class Affine:
    def __call__(self, z):
        return z

    def grad(self, z):
        return np.ones_like(z)


class LayerBase(ABC):
    def __init__(self):
        self.X = []
        self.act_fn = None
        self.trainable = True
        self.gradients = {}
        self.parameters = {}
        self.derived_variables = {}

    @abstractmethod
    def _init_params(self):
        raise NotImplementedError

    @abstractmethod
    def forward(self, X, retain_derived=True):
        raise NotImplementedError

    @abstractmethod
    def backward(self, dLdY, retain_grads=True):
        raise NotImplementedError

    def flush_gradients(self):
        """Erase all the layer's derived variables and gradients."""
        self.X = []
        for k, v in self.derived_variables.items():
            self.derived_variables[k] = []
        for k, v in self.gradients.items():
            self.gradients[k] = np.zeros_like(v)


class FullyConnected(LayerBase):
    def __init__(self, n_out, act_fn=None, init_scale=0.2):
        super().__init__()
        self.n_in = None
        self.n_out = n_out
        self.init_scale = init_scale
        self.act_fn = {None: Affine, "tanh": Tanh}[act_fn]()
        self.is_initialized = False

    def _init_params(self):
        W = np.random.uniform(-self.init_scale, self.init_scale, (self.n_in, self.n_out))
        b = np.zeros((1, self.n_out))
        self.parameters = {"W": W, "b": b}
        self.derived_variables = {"Z": []}
        self.gradients = {"W": np.zeros_like(W), "b": np.zeros_like(b)}
        self.is_initialized = True

    def forward(self, X, retain_derived=True):
        if not self.is_initialized:
            self.n_in = X.shape[1]
            self._init_params()

        Z = X @ self.parameters["W"] + self.parameters["b"]
        Y = self.act_fn(Z)
        if retain_derived:
            self.X.append(X)
            self.derived_variables["Z"].append(Z)
        return Y

    def backward(self, dLdY, retain_grads=True):
        assert self.trainable, "Layer is frozen"
        if not isinstance(dLdY, list):
            dLdY = [dLdY]

        dX = []
        X = self.X
        for dy, x, z in zip(dLdY, X, self.derived_variables["Z"]):
            dZ = dy * self.act_fn.grad(z)
            dX.append(dZ @ self.parameters["W"].T)
            if retain_grads:
                self.gradients["W"] += x.T @ dZ
                self.gradients["b"] += dZ.sum(axis=0, keepdims=True)
        return dX[0] if len(X) == 1 else dX
