#!/usr/bin/env python

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    x = x - np.max(x)
    e = np.exp(x)
    return e / e.sum()


def naive_softmax_loss_and_gradient(center_vec, outside_idx, outside_vectors):
    """
    Arguments:
    center_vec -- shape (d, )
    outside_idx -- integer
    outside_vectors -- shape (V, d), rows are vectors

    Return: loss, grad_center_vec, grad_outside_vecs
    """
    y_hat = softmax(outside_vectors @ center_vec)
    loss = -np.log(y_hat[outside_idx])
    delta = y_hat.copy()
    delta[outside_idx] -= 1
    grad_center_vec = outside_vectors.T @ delta
    grad_outside_vecs = np.outer(delta, center_vec)
    return loss, grad_center_vec, grad_outside_vecs


def neg_sampling_loss_and_gradient(center_vec, outside_idx, outside_vectors, neg_indices):
    """neg_indices may hold the same word more than once."""
    grad_outside_vecs = np.zeros_like(outside_vectors)
    u_o = outside_vectors[outside_idx]
    s = sigmoid(u_o @ center_vec)
    loss = -np.log(s)
    grad_center_vec = (s - 1) * u_o
    grad_outside_vecs[outside_idx] += (s - 1) * center_vec
    for k in neg_indices:
        u_k = outside_vectors[k]
        s_k = sigmoid(-(u_k @ center_vec))
        loss -= np.log(s_k)
        grad_center_vec = grad_center_vec + (1 - s_k) * u_k
        grad_outside_vecs[k] += (1 - s_k) * center_vec
    return loss, grad_center_vec, grad_outside_vecs
