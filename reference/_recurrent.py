"""What RNN, LSTM and GRU share: one step, and many steps with back-propagation through time.

A cell is two static functions. ``step(a, Wh, *state)`` takes the part of the pre-activation that
comes from the input, ``a = x Wx + b``, and returns the next state and a cache;
``step_backward(Wh, cache, *dstate)`` returns ``da``, ``dWh`` and the cotangents of the state before.
All products with ``Wx`` are done at once for all time steps.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ._checks import check
from ._layer import Layer, like
from ._types import Array


class Cell(Layer):
    """One time step: forward(x, *state) -> next state."""

    param_names = ("Wx", "Wh", "b")
    states: tuple[str, ...] = ("h",)
    width = "H"  # of Wx, Wh and b: a block a gate
    step: Any  # the two static functions
    step_backward: Any

    def __init__(self, Wx: Array, Wh: Array, b: Array) -> None:
        super().__init__(Wx, Wh, b)
        check(type(self).__name__, **cell_parameters(self))

    def _step_forward(self, x: Array, *state: Array) -> tuple[Array, ...]:
        Wx, Wh, b = self.params
        given = {f"{s}_prev": (value, "N H") for s, value in zip(self.states, state, strict=True)}
        check(f"{type(self).__name__}.forward", **cell_parameters(self), x=(x, "N D"), **given)
        after, cache = self.step(np.matmul(x, Wx) + b, Wh, *state)
        self._save(x, state, cache)
        return after

    def _step_backward(self, *dstate: Array) -> tuple[Array, ...]:
        x, state, cache = self._saved()
        self._check_cotangents(**{f"d{s}_next": (d, before.shape)
                                  for s, d, before in zip(self.states, dstate, state, strict=True)})
        Wx, Wh, _ = self.params
        da, dWh, dbefore = self.step_backward(Wh, cache, *dstate)
        for grad, value in zip(self.grads, (np.matmul(x.T, da), dWh, da.sum(axis=0)), strict=True):
            grad[...] = value
        return like(np.matmul(da, Wx.T), x), *(like(d, s) for d, s in zip(dbefore, state, strict=True))


class TimeCell(Layer):
    """Many time steps of a cell.

    Attributes:
        h: state after the last step ``(N, H)`` (and ``c``, for the LSTM).
            It takes the dtype of parameters that are bound.
        dh: after ``backward``, cotangent of the state before the first step (and ``dc``).
    """

    param_names = Cell.param_names
    cell: type[Cell]

    def __init__(self, Wx: Array, Wh: Array, b: Array, stateful: bool = False) -> None:
        super().__init__(Wx, Wh, b)
        check(type(self).__name__, **cell_parameters(self))
        self.stateful = stateful
        self.reset_state()

    def _adopt(self, params: Sequence[Array]) -> None:
        super()._adopt(params)
        for name in self.cell.states:
            if (state := getattr(self, name, None)) is not None:
                setattr(self, name, state.astype(np.result_type(*params)))

    def set_state(self, *state: Array | None) -> None:
        """Sets the state from which the next ``forward`` of a stateful layer starts.

        Args:
            state: ``h`` ``(N, H)`` (and, for the LSTM, ``c`` ``(N, H)``); None or left out for zeros.
        """
        if len(state) > len(self.cell.states):
            raise TypeError(f"{type(self).__name__}.set_state: {len(state)} states given, "
                            f"expected at most {len(self.cell.states)}: {', '.join(self.cell.states)}")
        for name in self.cell.states:
            setattr(self, name, None)
            setattr(self, f"d{name}", None)
        for name, value in zip(self.cell.states, state, strict=False):
            setattr(self, name, value)

    def reset_state(self) -> None:
        """Forgets the state: the next ``forward`` starts from zeros."""
        self.set_state()

    def forward(self, xs: Array) -> Array:
        """Runs through the sequence, from the kept state if stateful, else from zeros.

        Args:
            xs: ``(N, T, D)``, floating.

        Returns:
            ``hs`` ``(N, T, H)``: the state after every step.

        Raises:
            TypeError: ``xs`` is not a floating array.
            ValueError: shapes that do not fit, or a kept state of another batch size.
        """
        where = f"{type(self).__name__}.forward"
        names = self.cell.states
        kept = {s: getattr(self, s) for s in names if self.stateful and getattr(self, s) is not None}
        check(where, **cell_parameters(self), xs=(xs, "N T D"), **{s: (v, "N H") for s, v in kept.items()})
        Wx, Wh, b = self.params
        xa = np.matmul(xs, Wx) + b
        zero = np.zeros_like(xa, shape=(len(xs), len(Wh)))
        # copied, here and at the end: states are read and set from outside, and the steps keep them for backward
        start = state = tuple(kept.get(s, zero).copy() for s in names)
        hs = np.zeros_like(xa, shape=(*xs.shape[:2], len(Wh)), dtype=np.result_type(xa, Wh, *start))
        caches = []
        for t in range(xs.shape[1]):
            state, cache = self.cell.step(xa[:, t], Wh, *state)
            hs[:, t] = state[0]
            caches.append(cache)
        for name, value in zip(names, state, strict=True):
            setattr(self, name, value.copy())
        self._save(xs, start, hs.shape, caches)
        return hs

    def backward(self, dhs: Array) -> Array:
        """Back-propagation through the time steps of the last ``forward``, no further.

        Writes the gradients of the parameters, and ``dh`` (and ``dc``).

        Args:
            dhs: cotangent of ``hs`` ``(N, T, H)``.

        Returns:
            ``dxs`` ``(N, T, D)``, dtype of ``xs``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dhs`` has another shape than the output.
        """
        xs, start, shape, caches = self._saved()
        self._check_cotangents(dhs=(dhs, shape))
        Wx, Wh, _ = self.params
        dstate = tuple(np.zeros_like(dhs, shape=s.shape) for s in start)
        das: Any = []
        total = np.zeros_like(dhs, shape=Wh.shape)
        for t in reversed(range(shape[1])):
            da, dWh, dstate = self.cell.step_backward(Wh, caches[t], dhs[:, t] + dstate[0], *dstate[1:])
            das.append(da)
            total += dWh
        das = np.stack(das[::-1], axis=1)
        rows = das.reshape(-1, Wx.shape[1])
        for grad, value in zip(
            self.grads, (np.matmul(xs.reshape(-1, len(Wx)).T, rows), total, rows.sum(axis=0)), strict=True
        ):
            grad[...] = value
        for name, d, s in zip(self.cell.states, dstate, start, strict=True):
            setattr(self, f"d{name}", like(d, s))
        return like(np.matmul(das, Wx.T), xs)


def cell_parameters(layer: Any) -> dict[str, tuple[Array, str]]:
    """The axis strings of a cell's parameters, for ``check``: Wh first, because it alone gives H."""
    Wx, Wh, b = layer.params
    width = getattr(layer, "cell", layer).width
    return {"Wh": (Wh, f"H {width}"), "Wx": (Wx, f"D {width}"), "b": (b, width)}
