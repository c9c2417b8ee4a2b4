"""Weights from and to torch's own modules, bit for bit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ._twin import Twin
from .affine import Affine, TimeAffine
from .embedding import Embedding, TimeEmbedding
from .lstm import LSTM, TimeBiLSTM, TimeLSTM
from .rnn import RNN, TimeRNN


@dataclass(frozen=True)
class Pair:
    """A stock module and the twin that is the same function.

    Attributes:
        stock, twin: the classes.
        sizes: attributes with the size arguments.
        needs: option of the stock module and the one value that the twin has for it.
        inner: name of the module within the twin that has the stock module's state dict; empty for itself.
    """

    stock: type[nn.Module]
    twin: type[Twin]
    sizes: tuple[str, str]
    needs: Mapping[str, Any]
    inner: str = ""

    def misfits(self, module: nn.Module) -> list[str]:
        """The options of a stock module that the twin has not."""
        misfits = []
        for name, needed in self.needs.items():
            value = getattr(module, name)
            value = True if isinstance(value, Tensor) else value  # nn.Linear's bias
            if value != needed:
                misfits.append(f"{name}={value!r}, expected {needed!r}")
        return misfits


CELL = {"bias": True}
LAYER = CELL | {"num_layers": 1, "bidirectional": False}
TABLE = {"padding_idx": None, "max_norm": None, "scale_grad_by_freq": False, "sparse": False}
RECURRENT, LINEAR, ROWS = (
    ("input_size", "hidden_size"), ("in_features", "out_features"), ("num_embeddings", "embedding_dim")
)
PAIRS = (  # where one stock module has two twins, the first is the default
    Pair(nn.LSTM, TimeLSTM, RECURRENT, LAYER | {"proj_size": 0}, "rnn"),
    Pair(nn.LSTM, TimeBiLSTM, RECURRENT, LAYER | {"proj_size": 0, "bidirectional": True}, "rnn"),
    Pair(nn.RNN, TimeRNN, RECURRENT, LAYER | {"nonlinearity": "tanh"}, "rnn"),
    Pair(nn.LSTMCell, LSTM, RECURRENT, CELL, "cell"),
    Pair(nn.RNNCell, RNN, RECURRENT, CELL | {"nonlinearity": "tanh"}, "cell"),
    Pair(nn.Embedding, TimeEmbedding, ROWS, TABLE),
    Pair(nn.Embedding, Embedding, ROWS, TABLE),
    Pair(nn.Linear, TimeAffine, LINEAR, CELL),
    Pair(nn.Linear, Affine, LINEAR, CELL),
)


def from_stock(module: nn.Module, twin: type[Twin] | None = None) -> Twin:
    """The twin of one of torch's own modules: a new module with the same weights, bit for bit.

    The second bias of a recurrent module comes along as a constant, so that results are the same to
    the last bit; ``reference_params()`` gives the sum of the two. A twin reads ``(N, T, D)`` whatever
    ``batch_first`` was.

    Args:
        module: an ``nn.LSTM``, ``nn.RNN``, ``nn.LSTMCell``, ``nn.RNNCell``, ``nn.Embedding`` or
            ``nn.Linear``.
        twin: class wanted, where there are two: ``Affine`` instead of ``TimeAffine``, ``Embedding``
            instead of ``TimeEmbedding``.

    Returns:
        The twin, on the same device, of the same dtype and mode.

    Raises:
        TypeError: no such twin, as for ``nn.GRU``, which is another function.
        ValueError: the module has an option that the twin has not: several layers, a projection, no bias.
    """
    pairs = [p for p in PAIRS if isinstance(module, p.stock) and twin in (None, p.twin)]
    name = type(module).__name__
    if not pairs:
        known = ", ".join(f"{p.twin.__name__} from {p.stock.__name__}" for p in PAIRS)
        raise TypeError(f"from_stock: no {twin.__name__ if twin else 'twin'} from {name}, there are {known}")
    pair = min(pairs, key=lambda p: len(p.misfits(module)))
    misfits = "; ".join(pair.misfits(module))
    if misfits:
        raise ValueError(f"from_stock: {name} has {misfits} for a {pair.twin.__name__}")
    made = pair.twin(*_sizes(pair, module), **_factory(module))
    made.get_submodule(pair.inner).load_state_dict(module.state_dict())
    return made.train(module.training)


def to_stock(module: Twin) -> nn.Module:
    """The module of torch's own that a twin is: a new one with the same weights, bit for bit.

    A recurrent one is ``batch_first``, and its second bias, zero unless it came from ``from_stock``, is
    a parameter again.

    Args:
        module: a twin of the classes that ``from_stock`` gives.

    Returns:
        The stock module, on the same device, of the same dtype and mode.

    Raises:
        TypeError: a twin that no stock module is, such as the GRU.
    """
    for pair in PAIRS:
        if type(module) is pair.twin:
            inner = module.get_submodule(pair.inner)
            options = dict(pair.needs) | ({"batch_first": True} if "num_layers" in pair.needs else {})
            made = pair.stock(*_sizes(pair, inner), **options, **_factory(module))
            made.load_state_dict(inner.state_dict())
            return made.train(module.training)
    raise TypeError(f"to_stock: no module of torch's own is a {type(module).__name__}, "
                    f"expected one of {', '.join(p.twin.__name__ for p in PAIRS)}")


def _sizes(pair: Pair, module: nn.Module) -> list[Any]:
    return [getattr(module, name) for name in pair.sizes]


def _factory(module: nn.Module) -> dict[str, Any]:
    weight = next(module.parameters())
    return {"device": weight.device, "dtype": weight.dtype}
