import numpy as np

class Maxout(object):
  def __init__(self, n_in, n_out, pieces=3):
    self.W = np.random.uniform(-.5, .5, (pieces, n_in, n_out))
    self.b = np.zeros((pieces, n_out))
    self.dW = np.zeros(self.W.shape)
    self.db = np.zeros(self.b.shape)

  def forward(self, X):
    Z = np.einsum('ni,kio->kno', X, self.W) + self.b[:, None, :]
    self.winner = Z.argmax(axis=0)
    self.X = X
    return np.take_along_axis(Z, self.winner[None], axis=0)[0]

  def backward(self, dY):
    k = self.W.shape[0]
    dX = np.zeros_like(self.X)
    for j in range(k):
      d = dY * (self.winner == j)
      self.dW[j] = self.X.T.dot(d)
      self.db[j] = d.sum(axis=0)
      dX += d.dot(self.W[j].T)
    return dX
