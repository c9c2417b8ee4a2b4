import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm_cell_forward(xt, a_prev, c_prev, parameters):
    """
    xt (n_x, m), a_prev (n_a, m), c_prev (n_a, m); samples are columns
    parameters: Wf, bf forget gate; Wi, bi update gate; Wc, bc candidate; Wo, bo output gate
    """
    concat = np.concatenate((a_prev, xt), axis=0)
    ft = sigmoid(parameters["Wf"] @ concat + parameters["bf"])
    it = sigmoid(parameters["Wi"] @ concat + parameters["bi"])
    cct = sigmoid(parameters["Wc"] @ concat + parameters["bc"])
    ot = np.tanh(parameters["Wo"] @ concat + parameters["bo"])
    c_next = ft * c_prev + it * cct
    a_next = ot * np.tanh(c_next)
    cache = (a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters)
    return a_next, c_next, cache


def lstm_cell_backward(da_next, dc_next, cache):
    (a_next, c_next, a_prev, c_prev, ft, it, cct, ot, xt, parameters) = cache
    n_a = a_next.shape[0]
    concat = np.concatenate((a_prev, xt), axis=0)
    tc = np.tanh(c_next)
    dc = dc_next + da_next * ot * (1 - tc ** 2)
    dot = da_next * tc * (1 - ot ** 2)
    dcct = dc * it * cct * (1 - cct)
    dit = dc * cct * it * (1 - it)
    dft = dc * c_prev * ft * (1 - ft)
    gradients = {}
    dconcat = 0
    for k, d in (("f", dft), ("i", dit), ("c", dcct), ("o", dot)):
        gradients["dW" + k] = d @ concat.T
        gradients["db" + k] = d.sum(axis=1, keepdims=True)
        dconcat = dconcat + parameters["W" + k].T @ d
    gradients["da_prev"] = dconcat[:n_a]
    gradients["dxt"] = dconcat[n_a:]
    gradients["dc_prev"] = dc * ft
    return gradients
