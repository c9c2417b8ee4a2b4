"""Encoder, decoder and the sequence-to-sequence models made of them."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ._checks import check, check_index, check_sizes, integer, refuse_index, unchecked
from ._recurrent import Device
from ._twin import Twin
from .affine import TimeAffine
from .attention import mask_axes
from .embedding import TimeEmbedding
from .loss import TimeSoftmaxWithLoss
from .lstm import TimeLSTM

State = Sequence[Tensor | None]


class Model(Twin):
    """A module of the three sizes V, D, H.

    Args:
        vocab_size, wordvec_size, hidden_size: V, D, H, each >= 1.
        device, dtype: of the parameters.

    Raises:
        TypeError: a size is not an integer.
        ValueError: a size below 1.
    """

    sizes = ((0, 0), (0, 1), (2, 0))

    def __init__(
        self,
        vocab_size: int,
        wordvec_size: int,
        hidden_size: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        V, D, H = check_sizes(
            type(self).__name__,
            vocab_size=vocab_size,
            wordvec_size=wordvec_size,
            hidden_size=hidden_size,
        )
        self._build(V, D, H, device=device, dtype=dtype)

    def _build(self, V: int, D: int, H: int, **factory: Any) -> None:
        """Makes the layers."""
        raise NotImplementedError


class Encoder(Model):
    """Embedding and LSTM over the source; gives the last state.

    Source: Sutskever et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.
    """

    def _build(self, V: int, D: int, H: int, **factory: Any) -> None:
        self.embed = TimeEmbedding(V, D, **factory)
        self.lstm = TimeLSTM(D, H, **factory)

    def forward(self, xs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Reads the source.

        Args:
            xs: ids ``(N, T)``, integer, 0 <= id < V where they are valid.
            mask: boolean ``(N, T)``, true at valid positions; None for all. The others, wherever
                they stand, are not read: each sample gets what it gets without them.

        Returns:
            ``h`` ``(N, H)``: the state after the last valid step, zero where there is none.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: ``xs`` is not an integer tensor, or ``mask`` not boolean.
            ValueError: shapes that do not fit, or T is 0.
        """
        return self._read(xs, mask)[:, -1]

    def _read(self, xs: Tensor, mask: Tensor | None) -> Tensor:
        """The state ``(N, T, H)`` after every step, or after the last valid one before it."""
        check(f"{type(self).__name__}.forward", xs=(xs, "int N T"), **mask_axes(mask))
        if mask is None:
            hs: Tensor = self.lstm(self.embed(xs))
            return hs
        # the valid ids are read first, in their order; the state after the k-th is the k-th
        order = (~mask).long().argsort(dim=1, stable=True)
        hs = self.lstm(self.embed(xs.masked_fill(~mask, 0).gather(1, order)))
        read = mask.cumsum(1)[:, :, None]
        hs = hs.gather(1, (read - 1).clamp(min=0).expand(-1, -1, hs.shape[2]))
        return hs.masked_fill(read == 0, 0)


class DecoderBase(Model):
    """What decoders share: the layers, and greedy decoding with the state carried from id to id."""

    beside: ClassVar[tuple[int, int]] = (0, 0)  # H wide vectors beside the input of lstm, of affine
    generate: Callable[..., Tensor]

    def _build(self, V: int, D: int, H: int, **factory: Any) -> None:
        self.embed = TimeEmbedding(V, D, **factory)
        self.lstm = TimeLSTM(D + self.beside[0] * H, H, **factory)
        self.affine = TimeAffine(H + self.beside[1] * H, V, **factory)

    def _decode(self, xs: Tensor, state: State, *source: Any) -> tuple[Tensor, State]:
        """Logits ``(N, U, V)`` and the LSTM's next state, of ids and the encoder's message."""
        raise NotImplementedError

    def _check(self, method: str, **arguments: tuple[Tensor, str]) -> str:
        where = f"{type(self).__name__}.{method}"
        slot = self.lstm.slots["Wh"]
        check(where, **{f"lstm.{slot.path}": (slot.of(self.lstm), "4H H")}, **arguments)
        return where

    @torch.no_grad()
    def _greedy(
        self, where: str, h: Tensor, start_id: int, sample_size: int, *source: Any
    ) -> Tensor:
        start_id, sample_size = integer(where, start_id=start_id), integer(where, sample_size=sample_size)
        if sample_size < 0:
            raise ValueError(f"{where}: sample_size is {sample_size}, expected >= 0")
        if not 0 <= start_id < self.embed.num_embeddings:
            refuse_index(where, "start_id", start_id, self.embed.num_embeddings)
        ids = [torch.full((h.shape[0], 1), start_id, device=h.device)]
        state: State = (h, None)
        with unchecked():  # an argmax is in range
            for _ in range(sample_size):
                score, state = self._decode(ids[-1], state, *source)
                ids.append(score.argmax(dim=-1))  # documented to be the first among equals
        return torch.cat(ids, dim=1)[:, 1:]


class Decoder(DecoderBase):
    """Embedding, LSTM from the encoder's last state and a zero cell, affine map to the vocabulary.

    Source: Sutskever et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.
    """

    def forward(self, xs: Tensor, h: Tensor) -> Tensor:
        """Scores of the next id at every step.

        Args:
            xs: ids ``(N, U)``, integer, 0 <= id < V.
            h: encoder state ``(N, H)``, dtype of the weights (any floating one under autocast).

        Returns:
            ``score`` ``(N, U, V)``: logits.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        self._check("forward", xs=(xs, "int N U"), h=(h, "N H"))
        return self._decode(xs, (h, None), h)[0]

    def generate(self, h: Tensor, start_id: int, sample_size: int) -> Tensor:
        """Greedy decoding: at every step the id of the highest score, the first among equals.

        Args:
            h: encoder state ``(N, H)``, dtype of the weights (any floating one under autocast).
            start_id: first input id, 0 <= id < V.
            sample_size: number of ids, >= 0.

        Returns:
            ids ``(N, sample_size)``, int64.

        Raises:
            IndexError: ``start_id`` out of range.
            TypeError: ``h`` is not a floating tensor of that dtype.
            ValueError: shapes that do not fit, or a negative size.
        """
        where = self._check("generate", h=(h, "N H"))
        return self._greedy(where, h, start_id, sample_size, h)

    def _decode(self, xs: Tensor, state: State, *source: Any) -> tuple[Tensor, State]:
        hs, state = self.lstm(self.embed(xs), state=state)
        return self.affine(hs), state


class PeekyDecoder(Decoder):
    """A ``Decoder`` whose LSTM and affine map also see the encoder state at every step.

    In both places the encoder state comes first: ``concatenate((h, input))``.

    Source: Cho et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.
    """

    beside = (1, 1)

    def _decode(self, xs: Tensor, state: State, *source: Any) -> tuple[Tensor, State]:
        (h,) = source
        peek = h[:, None].expand(-1, xs.shape[1], -1)
        hs, state = self.lstm(torch.cat((peek, self.embed(xs)), dim=2), state=state)
        return self.affine(torch.cat((peek, hs), dim=2)), state


class Seq2seq(Model):
    """An ``Encoder``, a ``Decoder`` and the mean loss of the answer.

    The decoder reads ``ts[:, :-1]`` and is asked for ``ts[:, 1:]``.

    Source: Sutskever et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.
    """

    options = ("loss.ignore_label",)
    encoder_class: ClassVar[type[Encoder]] = Encoder
    decoder_class: ClassVar[type[DecoderBase]] = Decoder

    def _build(self, V: int, D: int, H: int, **factory: Any) -> None:
        self.encoder = self.encoder_class(V, D, H, **factory)
        self.decoder = self.decoder_class(V, D, H, **factory)
        self.loss = TimeSoftmaxWithLoss()

    def score(self, xs: Tensor, ts_in: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits of the next id at every step, the answer given.

        Args:
            xs: source ids ``(N, T)``, integer.
            ts_in: decoder input ids ``(N, U)``, integer.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.

        Returns:
            ``(N, U, V)``.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        score: Tensor = self.decoder(ts_in, *self._message(xs, mask))
        return score

    def _message(self, xs: Tensor, mask: Tensor | None) -> tuple[Tensor | None, ...]:
        """What the decoder gets of the source."""
        return (self.encoder(xs, mask),)

    def forward(self, xs: Tensor, ts: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean loss of the answer.

        Args:
            xs: source ids ``(N, T)``, integer.
            ts: start id and answer ids ``(N, U + 1)``, integer, U >= 1. Where an answer is padded
                at its end with ``loss.ignore_label``, it does not count.
            mask: boolean ``(N, T)``, true at valid source positions; None for all. The others
                change nothing.

        Returns:
            The loss, a scalar of the parameters' dtype (float32 under autocast), in nats.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        where = f"{type(self).__name__}.forward"
        check(where, xs=(xs, "int N T"), ts=(ts, "int N U"), **mask_axes(mask))
        if ts.shape[1] < 2:
            raise ValueError(f"{where}: ts has shape {tuple(ts.shape)}, "
                             "expected at least 2 columns, start id and answer")
        xs = xs if mask is None else xs.masked_fill(~mask, 0)
        V, ignored = self.decoder.embed.num_embeddings, self.loss.ignore_label
        ts_in = ts[:, :-1]
        if not 0 <= ignored < V:
            ts_in = ts_in.masked_fill(ts_in == ignored, 0)  # no id; after it nothing counts
        check_index(where, {"xs": xs, "ts": ts.masked_fill(ts == ignored, 0)}, V)
        with unchecked():
            loss: Tensor = self.loss(self.score(xs, ts_in, mask), ts[:, 1:])
        return loss

    @torch.no_grad()
    def generate(
        self, xs: Tensor, start_id: int, sample_size: int, mask: Tensor | None = None
    ) -> Tensor:
        """Greedy answers; neither mode nor state change.

        Args:
            xs: source ids ``(N, T)``, integer.
            start_id: first input id of the decoder.
            sample_size: number of ids, >= 0.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.

        Returns:
            ids ``(N, sample_size)``, int64.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit, or a negative size.
        """
        message, *rest = self._message(xs, mask)
        return self.decoder.generate(message, start_id, sample_size, *rest)


class PeekySeq2seq(Seq2seq):
    """A ``Seq2seq`` with a ``PeekyDecoder``; arguments and errors as there.

    Source: Saito, Deep Learning from Scratch 2, chapter 7.
    """

    decoder_class = PeekyDecoder
