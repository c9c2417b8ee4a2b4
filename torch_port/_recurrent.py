"""What RNN, LSTM and GRU share: the one bias, the layout of the gates, and the kept state."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import zip_longest
from operator import attrgetter
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from ._checks import check, check_sizes
from ._twin import Slot, Twin, from_numpy, textbook_init_

Device = torch.device | str | None


class OneBias(nn.Module):
    """Mixin for torch's recurrent modules: the second bias is a zero buffer, not a parameter.

    Two trained biases would double the effective step of the bias and count twice in the norm of
    the gradient. As a persistent buffer the second one stays in ``state_dict``, so that those of
    the stock modules load, and among the weights that the fused kernels read.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in [n for n, _ in self.named_parameters() if n.startswith("bias_hh")]:
            second = getattr(self, name).detach()
            delattr(self, name)
            self.register_buffer(name, None)
            setattr(self, name, second)
        if isinstance(self, nn.RNNBase):
            self._init_flat_weights()  # gathered anew: it holds on to the one that was deleted

    @staticmethod
    def step(a: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """The next state from the pre-activation and the state."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draws the textbook's initial weights; both biases are zero."""
        textbook_init_(*self.parameters(), *self.buffers())


class OneBiasCell(OneBias):
    """``OneBias`` for torch's modules of a single step."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """As in torch; by ``step`` where torch's kernels know nothing of a transformation."""
        state = hx if isinstance(hx, tuple) else (hx,)
        if transformed(input, *state, *self.parameters()):
            cell: Any = self
            a = F.linear(input, cell.weight_ih, cell.bias_ih + cell.bias_hh)
            found = self.step(a + F.linear(state[0], cell.weight_hh), *state)
            return found if isinstance(hx, tuple) else found[0]
        return super().forward(input, hx)


def cell_slots(
    prefix: str, suffix: str = "", gates: tuple[int, ...] = (0,), number: str = ""
) -> dict[str, Slot]:
    """Slots of Wx, Wh and b in a ``OneBias`` module."""
    return {
        f"Wx{number}": Slot(f"{prefix}.weight_ih{suffix}", transposed=True, gates=gates),
        f"Wh{number}": Slot(f"{prefix}.weight_hh{suffix}", transposed=True, gates=gates),
        f"b{number}": Slot(
            f"{prefix}.bias_ih{suffix}", gates=gates, second=f"{prefix}.bias_hh{suffix}"
        ),
    }


class TimeCell(Twin):
    """Many time steps of a cell.

    A stateful layer starts each ``forward`` from the state after the last one, detached; another
    starts from zeros and keeps nothing. The state is neither a parameter nor in ``state_dict``; it
    follows ``.to`` and is copied and pickled, without its history.

    Attributes:
        h: state ``(N, H)`` that the next ``forward`` of a stateful layer starts from, None for
            zeros (and ``c``, for the LSTM).

    Args:
        input_size, hidden_size: D and H, each >= 1.
        stateful: whether the state is kept between calls.
        device, dtype: of the parameters.

    Raises:
        ValueError: a size below 1.
    """

    sizes = ((0, 0), (1, 0))
    options = ("stateful",)
    states: ClassVar[Mapping[str, str]] = {"h": "h"}  # attribute here: dotted name on the reference

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        stateful: bool = False,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size = check_sizes(
            type(self).__name__, input_size=input_size, hidden_size=hidden_size
        )
        self.stateful = stateful
        self.reset_state()
        self._build(device=device, dtype=dtype)

    def _build(self, **factory: Any) -> None:
        """Makes the parameters."""
        raise NotImplementedError

    def _run(self, xs: Tensor, state: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """States of all time steps and the state after the last, of checked arguments."""
        raise NotImplementedError

    def set_state(self, *state: Tensor | None) -> None:
        """Sets the state that the next ``forward`` of a stateful layer starts from.

        Gradients flow into it from that ``forward``.

        Args:
            state: ``h`` ``(N, H)`` (and, for the LSTM, ``c``, the same); None or left out: zeros.

        Raises:
            TypeError: more than the layer has.
        """
        if len(state) > len(self.states):
            raise TypeError(f"{type(self).__name__}.set_state: {len(state)} states given, "
                            f"expected at most {len(self.states)}: {', '.join(self.states)}")
        for name, value in zip_longest(self.states, state):
            setattr(self, name, value)

    def reset_state(self) -> None:
        """Forgets the state: the next ``forward`` starts from zeros."""
        self.set_state()

    def forward(self, xs: Tensor, *, state: Sequence[Tensor | None] | None = None) -> Any:
        """Runs through the sequence, from the kept state if stateful, else from zeros.

        Args:
            xs: ``(N, T, D)``, dtype of the weights (under autocast, any that it casts).
            state: ``h`` ``(N, H)`` (and, for the LSTM, ``c`` ``(N, H)``), None for zeros, to start
                from instead of the kept one, which then stays as it is.

        Returns:
            ``hs`` ``(N, T, H)``: the state after every step; where ``state`` is given, a tuple of
            that and the state after the last step, a tuple of ``(N, H)``.

        Raises:
            RuntimeError: a stateful layer runs within a backward (activation checkpointing).
            TypeError: ``xs`` is not a floating tensor of that dtype.
            ValueError: shapes that do not fit, or a kept state of another batch size.
        """
        if state is not None:
            return self._run_from(xs, state)
        if not self.stateful:
            return self._run_from(xs, ())[0]
        if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
            raise RuntimeError(
                f"{type(self).__name__}.forward: runs within a backward, as activation checkpointing "
                "makes it, from a state that is not the one of the first time; expected "
                "stateful=False, or state= to be given"
            )
        hs, last = self._run_from(xs, [getattr(self, name) for name in self.states])
        # copied: a view would keep the states of all time steps alive, and one made in inference mode
        # cannot take part in training afterwards
        inferring = not torch.compiler.is_compiling() and torch.is_inference_mode_enabled()
        with torch.inference_mode(False) if inferring else nullcontext():
            self.set_state(*(value.detach().clone() for value in last))
        return hs

    def _run_from(
        self, xs: Tensor, state: Sequence[Tensor | None]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        wx, wh, *_ = self.slots.values()
        weight = wx.of(self)
        given = dict(zip(self.states, state, strict=False))
        check(
            f"{type(self).__name__}.forward",
            **{wx.path: (weight, "G D"), wh.path: (wh.of(self), "G H")},
            xs=(xs, "N T D"),
            **{name: (value, "N H") for name, value in given.items() if value is not None},
        )
        xs = xs.to(weight.dtype).contiguous()  # another dtype under autocast alone
        zero = xs.new_zeros(xs.shape[0], self.hidden_size)
        values = (given.get(name) for name in self.states)
        return self._run(xs, [zero if v is None else v.to(weight.dtype) for v in values])

    def take_options(self, layer: Any) -> None:
        super().take_options(layer)
        weight = next(iter(self.slots.values())).of(self)
        arrays = [attrgetter(path)(layer) for path in self.states.values()]
        self.set_state(*(
            None if a is None else from_numpy(a, weight.dtype).to(weight.device) for a in arrays
        ))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}, stateful={self.stateful}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)
        for name in self.states:
            value = getattr(self, name)
            setattr(self, name, None if value is None else fn(value))
        return self

    def __getstate__(self) -> dict[str, Any]:
        kept = self.__dict__.copy()
        for name in self.states:
            kept[name] = None if kept[name] is None else kept[name].detach()
        return kept


class FusedTimeCell(TimeCell):
    """A ``TimeCell`` on one of torch's fused kernels."""

    kernel: ClassVar[type[OneBias]]
    directions: ClassVar[int] = 1

    def _build(self, **factory: Any) -> None:
        self.rnn = type(self).kernel(
            self.input_size,
            self.hidden_size,
            batch_first=True,
            bidirectional=self.directions == 2,
            **factory,
        )

    def _run(self, xs: Tensor, state: list[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        kinds = len(state) // self.directions  # h alone, or h and c
        if torch.compiler.is_compiling() or transformed(xs, *state, *self.rnn.parameters()):
            halves = [self._steps(d, xs, state[d * kinds : (d + 1) * kinds]) for d in range(self.directions)]
            return torch.cat([hs for hs, _ in halves], dim=2), tuple(s for _, last in halves for s in last)
        # contiguous as the kernel reads it: else torch chooses its product by whether a gradient is asked for
        xs = xs.transpose(0, 1).contiguous().transpose(0, 1)
        hs, last = self.rnn(xs, tuple(torch.stack(state[k::kinds]) for k in range(kinds)))
        return hs, tuple(last[k][d] for d in range(self.directions) for k in range(kinds))

    def _steps(
        self, direction: int, xs: Tensor, state: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """One direction, step by step: the kernels know no ``vmap``, no forward mode, no graph, no open length."""
        suffix = "_l0_reverse" if direction else "_l0"
        w_ih, w_hh, b_ih, b_hh = (
            getattr(self.rnn, f"{name}{suffix}")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        kernel = type(self).kernel

        def step(state: Sequence[Tensor], a_t: Tensor) -> Sequence[Tensor]:
            return kernel.step(a_t + F.linear(state[0], w_hh), *state)

        return over_time(step, state, F.linear(xs, w_ih, b_ih + b_hh), reverse=bool(direction))


def over_time(
    step: Callable[[Sequence[Tensor], Tensor], Sequence[Tensor]],
    state: Sequence[Tensor],
    a: Tensor,
    reverse: bool = False,
) -> tuple[Tensor, Sequence[Tensor]]:
    """States ``(N, T, H)`` after all time steps, and the state after the last.

    Args:
        step: function of a state and of ``a`` at one time step that gives the next state.
        state: the one before the first step, tensors ``(N, H)``; its first is what comes out.
        a: pre-activations ``(N, T, G)``.
        reverse: whether the last time step comes first.
    """
    if torch.compiler.is_exporting():
        return scanned(step, state, a, reverse)
    steps = []
    for a_t in reversed(a.unbind(1)) if reverse else a.unbind(1):
        state = step(state, a_t)
        steps.append(state[0])
    return torch.stack(steps[::-1] if reverse else steps, dim=1), state


def scanned(
    step: Callable[[Sequence[Tensor], Tensor], Sequence[Tensor]], state: Sequence[Tensor], a: Tensor, reverse: bool
) -> tuple[Tensor, Sequence[Tensor]]:
    """``over_time`` as one operation of a graph, for any number of steps: a loop would fix it."""

    def one(state: Sequence[Tensor], a_t: Tensor) -> tuple[list[Tensor], Tensor]:
        state = list(step(state, a_t))
        return state, state[0].clone()  # scan wants no output to be another

    last, hs = scan(one, [s.clone() for s in state], a, dim=1, reverse=reverse)
    return hs, last


def transformed(*tensors: Tensor) -> bool:
    """Whether one of them is inside a transformation of ``torch.func``: ``vmap``, ``jvp``, ``grad``."""
    if torch.compiler.is_compiling():
        return False
    return any(torch._C._functorch.is_functorch_wrapped_tensor(t) for t in tensors)
