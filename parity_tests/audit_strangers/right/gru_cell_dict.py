import numpy as np

def _sig(a):
    return 1. / (1. + np.exp(-a))

def init_gru(n_in, n_hid, seed=1):
    rs = np.random.RandomState(seed)
    p = {}
    for g in 'zrn':
        p['W' + g] = rs.randn(n_in, n_hid) * .1
        p['U' + g] = rs.randn(n_hid, n_hid) * .1
        p['b' + g] = np.zeros(n_hid)
    return p

def gru_cell_forward(x, h, p):
    z = _sig(x @ p['Wz'] + h @ p['Uz'] + p['bz'])
    r = _sig(x @ p['Wr'] + h @ p['Ur'] + p['br'])
    hu = h @ p['Un']
    n = np.tanh(x @ p['Wn'] + r * hu + p['bn'])
    h_new = (1 - z) * n + z * h
    return h_new, (x, h, p, z, r, hu, n)

def gru_cell_backward(dh_new, cache):
    x, h, p, z, r, hu, n = cache
    g = {}
    dz = dh_new * (h - n) * z * (1 - z)
    dn = dh_new * (1 - z) * (1 - n * n)
    dr = dn * hu * r * (1 - r)
    dhu = dn * r
    dh = dh_new * z + dhu @ p['Un'].T + dz @ p['Uz'].T + dr @ p['Ur'].T
    dx = dn @ p['Wn'].T + dz @ p['Wz'].T + dr @ p['Wr'].T
    for k, d in (('z', dz), ('r', dr), ('n', dn)):
        g['W' + k] = x.T @ d
        g['b' + k] = d.sum(0)
    g['Uz'] = h.T @ dz
    g['Ur'] = h.T @ dr
    g['Un'] = h.T @ dhu
    return dx, dh, g
