import numpy as np

def huber_loss(pred, target, delta=2.0):
    r = pred - target
    small = np.abs(r) <= delta
    loss = np.where(small, 0.5 * r**2, delta * np.abs(r) - 0.5 * delta**2)
    dpred = np.where(small, r, np.sign(r))
    return loss.sum() / len(r), dpred / len(r)

def charbonnier_loss(pred, target, eps=0.1):
    r = pred - target
    root = np.sqrt(r**2 + eps**2)
    return root.sum() / len(r), r / root / len(r)
