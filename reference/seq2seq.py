"""Encoder, decoder and the sequence-to-sequence models made of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ._checks import check, check_index, check_masked, integer
from ._functions import log_softmax
from ._layer import Composite, like, normal
from ._types import Array
from .affine import TimeAffine
from .embedding import TimeEmbedding
from .loss import TimeSoftmaxWithLoss
from .lstm import TimeLSTM


def embedding_and_lstm(sizes: Sequence[int], inputs: int, stateful: bool, dtype: DTypeLike,
                       rng: np.random.Generator) -> dict[str, Any]:
    """The textbook's embedding ``(V, D)`` and an LSTM over ``inputs`` features, by layer name."""
    V, D, H = sizes
    return {
        "embed": TimeEmbedding(normal(rng, (V, D), 0.01, dtype)),
        "lstm": TimeLSTM(normal(rng, (inputs, 4 * H), inputs**-0.5, dtype), normal(rng, (H, 4 * H), H**-0.5, dtype),
                         np.zeros(4 * H, dtype=dtype), stateful),
    }


def output_affine(sizes: Sequence[int], inputs: int, dtype: DTypeLike, rng: np.random.Generator) -> TimeAffine:
    """The textbook's affine map from ``inputs`` features to the vocabulary."""
    return TimeAffine(normal(rng, (inputs, sizes[0]), inputs**-0.5, dtype), np.zeros(sizes[0], dtype=dtype))


class Encoder(Composite):
    """Embedding and LSTM over the source; gives the last state.

    Source: Sutskever et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.

    Args:
        vocab_size, wordvec_size, hidden_size: V, D, H, each >= 1.
        dtype: floating dtype of the parameters.
        rng: ``numpy.random.Generator`` that draws them; None for a fresh one.

    Raises:
        ValueError: a size below 1.
    """

    embed: TimeEmbedding
    lstm: TimeLSTM

    def __init__(self, vocab_size: int, wordvec_size: int, hidden_size: int, *, dtype: DTypeLike = np.float32,
                 rng: np.random.Generator | None = None) -> None:
        sizes = model_sizes(self, vocab_size, wordvec_size, hidden_size)
        rng = np.random.default_rng() if rng is None else rng
        super().__init__(**embedding_and_lstm(sizes, sizes[1], False, dtype, rng))

    def forward(self, xs: Array, mask: Array | None = None, *, lengths: Array | None = None) -> Array:
        """Reads the source.

        Args:
            xs: ids ``(N, T)``, integer, 0 <= id < V where they are valid.
            mask: boolean ``(N, T)``, true at valid positions; None for all. The others, wherever they stand, are
                not read: each sample gets what it gets without them.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``h`` ``(N, H)``: the state after the last valid step, zero where there is none.

        Raises:
            IndexError: an id out of range.
            TypeError: ``xs`` is not an integer array, or ``mask`` not boolean.
            ValueError: shapes that do not fit, or T is 0.
        """
        return self._read(xs, mask, lengths)[:, -1]

    def _read(self, xs: Array, mask: Array | None, lengths: Array | None) -> Array:
        """The state ``(N, T, H)`` after every step, or after the last valid one before it."""
        mask = check_masked(f"{type(self).__name__}.forward", mask, lengths, xs=(xs, "int N T"))
        mask = np.ones(xs.shape, dtype=bool) if mask is None else mask
        # the valid ids are read first, in their order; the state after the k-th of them stands at k - 1
        rows, order = np.arange(len(xs))[:, None], np.argsort(~mask, axis=1, kind="stable")
        hs = self.lstm.forward(self.embed.forward(np.where(mask, xs, 0)[rows, order]))
        read = mask.cumsum(axis=1)
        self._save(hs.shape, rows, read)
        return np.where(read[:, :, None] > 0, hs[rows, read - 1], 0)

    def backward(self, dh: Array) -> None:
        """Writes the gradients of the parameters; ids have none.

        Args:
            dh: cotangent of ``h`` ``(N, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dh`` has another shape than the output.
        """
        shape, _, _ = self._saved()
        self._check_cotangents(dh=(dh, shape[::2]))
        dhs = np.zeros_like(dh, shape=shape)
        dhs[:, -1] = dh
        self._read_backward(dhs)

    def _read_backward(self, dhs: Array) -> None:
        _, rows, read = self._saved()
        total = np.zeros_like(dhs)
        np.add.at(total, (rows, read - 1), np.where(read[:, :, None] > 0, dhs, 0))
        self.embed.backward(self.lstm.backward(total))


class Decoder(Composite):
    """Embedding, LSTM from the encoder's last state and a zero cell, affine map to the vocabulary.

    Source: Sutskever et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.

    Args:
        vocab_size, wordvec_size, hidden_size: V, D, H, each >= 1.
        dtype: floating dtype of the parameters.
        rng: ``numpy.random.Generator`` that draws them; None for a fresh one.

    Raises:
        ValueError: a size below 1.
    """

    embed: TimeEmbedding
    lstm: TimeLSTM
    affine: TimeAffine
    _peeks = 0  # how many H wide copies of h the LSTM and the affine map see beside their own input

    def __init__(self, vocab_size: int, wordvec_size: int, hidden_size: int, *, dtype: DTypeLike = np.float32,
                 rng: np.random.Generator | None = None) -> None:
        _, D, H = sizes = model_sizes(self, vocab_size, wordvec_size, hidden_size)
        rng = np.random.default_rng() if rng is None else rng
        layers = embedding_and_lstm(sizes, D + self._peeks * H, True, dtype, rng)
        super().__init__(**layers, affine=output_affine(sizes, H + self._peeks * H, dtype, rng))

    def forward(self, xs: Array, h: Array) -> Array:
        """Scores of the next id at every step.

        Args:
            xs: ids ``(N, U)``, integer, 0 <= id < V.
            h: encoder state ``(N, H)``, floating.

        Returns:
            ``score`` ``(N, U, V)``: logits.

        Raises:
            IndexError: an id out of range.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        check(f"{type(self).__name__}.forward", Wh=(self.lstm.params[1], "H 4H"), xs=(xs, "int N U"), h=(h, "N H"))
        self.lstm.set_state(h)
        score = self._scores(xs, h)
        self._save(score.shape)
        return score

    def _scores(self, xs: Array, h: Array, mask: Array | None = None) -> Array:
        return self.affine.forward(self.lstm.forward(self.embed.forward(xs)))

    def backward(self, dscore: Array) -> Array:
        """Cotangent of the encoder state; writes the gradients of the parameters.

        Args:
            dscore: cotangent of ``score`` ``(N, U, V)``.

        Returns:
            ``dh`` ``(N, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dscore`` has another shape than the output.
        """
        (shape,) = self._saved()
        self._check_cotangents(dscore=(dscore, shape))
        self.embed.backward(self.lstm.backward(self.affine.backward(dscore)))
        return self.lstm.dh

    def generate(self, h: Array, start_id: int, sample_size: int, **how: Any) -> Any:
        """Decoding, greedy or by beam search; among equals, the first.

        Args:
            h: encoder state ``(N, H)``, floating.
            start_id: first input id, 0 <= id < V.
            sample_size: number of ids, >= 0.
            how: ``end_id``, ``beam_width``, ``length_penalty``, ``scores``, as in ``Seq2seq.generate``.

        Returns:
            As there.

        Raises:
            As there.
        """
        check(f"{type(self).__name__}.generate", Wh=(self.lstm.params[1], "H 4H"), h=(h, "N H"))
        return self._search(h, (h,), start_id, sample_size, **how)

    def _search(self, first: Array, message: Sequence[Any], start_id: int, sample_size: int, *,
                end_id: int | None = None, beam_width: int = 1, length_penalty: float = 1.0,
                scores: bool = False) -> Any:
        """Answers from the state ``first`` ``(N, H)``; what ``_scores`` gets beside the ids is ``message``."""
        where, (W,) = f"{type(self).__name__}.generate", self.embed.params
        N, V = len(first), len(W)
        start_id, U = integer(where, start_id=start_id), integer(where, sample_size=sample_size)
        K = integer(where, beam_width=beam_width)
        for name, value, least in (("sample_size", U, 0), ("beam_width", K, 1), ("length_penalty", length_penalty, 0)):
            if not value >= least:
                raise ValueError(f"{where}: {name} is {value}, expected >= {least}")
        check_index(where, "start_id", np.array([start_id]), V)
        end = -1  # no id
        if end_id is not None:
            end = integer(where, end_id=end_id)
            check_index(where, "end_id", np.array([end]), V)
        # K answers a sample, one after the other; at first all but one of them are impossible
        message = [None if a is None else np.repeat(a, K, axis=0) for a in message]
        self.lstm.set_state(np.repeat(first, K, axis=0))
        ids = np.full((N * K, U + 1), start_id)
        total, length = np.where(np.arange(K) == 0, 0, np.full((N, K), -np.inf)), np.zeros((N, K), dtype=int)
        ended, over = np.zeros((N, K), dtype=bool), np.where(np.arange(V) == end, 0, -np.inf)
        kept: list[Array] = []
        for u in range(U):
            logits = self._scores(ids[:, u : u + 1], *message)[:, 0].reshape(N, K, V)
            logits = np.where(ended[:, :, None], over, logits)  # what has ended goes on with its end alone
            length = length + ~ended
            best = logits[:, 0].argmax(axis=1)[:, None]
            if K > 1 or scores:
                sums = total[:, :, None] + log_softmax(logits.astype(np.result_type(logits, np.float64)))
                if K > 1:
                    rank = sums / length[:, :, None] ** length_penalty
                    best = np.argsort(-rank.reshape(N, K * V), axis=1, kind="stable")[:, :K]
                total = np.take_along_axis(sums.reshape(N, K * V), best, axis=1)
            parent = best // V
            rows = (np.arange(N)[:, None] * K + parent).ravel()
            ids = ids[rows]
            ids[:, u + 1] = (best % V).ravel()
            ended, length = (np.take_along_axis(a, parent, axis=1) for a in (ended, length))
            self.lstm.set_state(self.lstm.h[rows], self.lstm.c[rows])
            kept = [w[rows] for w in (*kept, *self._kept())]
            ended = ended | (best % V == end)
            if end_id is not None and ended.all():  # of no samples all have ended
                ids[:, u + 2 :] = end
                break
        self._keep([w[::K] for w in kept])
        found = ids[::K, 1:]
        return (found, total[:, 0] / np.maximum(length[:, 0], 1) ** length_penalty) if scores else found

    def _kept(self) -> list[Array]:
        """What the last step of decoding leaves to be kept of all, arrays with a row an answer."""
        return []

    def _keep(self, steps: list[Array]) -> None:
        """Keeps it, of all steps."""


class PeekyDecoder(Decoder):
    """A ``Decoder`` whose LSTM and affine map also see the encoder state at every step.

    In both places the encoder state comes first: ``concatenate((h, input))``.

    Source: Cho et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.

    Args:
        vocab_size, wordvec_size, hidden_size: V, D, H, each >= 1.
        dtype: floating dtype of the parameters.
        rng: ``numpy.random.Generator`` that draws them; None for a fresh one.

    Raises:
        ValueError: a size below 1.
    """

    _peeks = 1

    def _scores(self, xs: Array, h: Array, mask: Array | None = None) -> Array:
        peek = np.repeat(h[:, None, :], xs.shape[1], axis=1)
        hs = self.lstm.forward(np.concatenate((peek, self.embed.forward(xs)), axis=2))
        return self.affine.forward(np.concatenate((peek, hs), axis=2))

    def backward(self, dscore: Array) -> Array:
        """Cotangent of the encoder state, over all its paths; writes the gradients of the parameters.

        Args:
            dscore: cotangent of ``score`` ``(N, U, V)``.

        Returns:
            ``dh`` ``(N, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dscore`` has another shape than the output.
        """
        (shape,) = self._saved()
        self._check_cotangents(dscore=(dscore, shape))
        H = len(self.lstm.params[1])
        dout = self.affine.backward(dscore)
        dxs = self.lstm.backward(dout[:, :, H:])
        self.embed.backward(dxs[:, :, H:])
        dh = self.lstm.dh
        return like(dout[:, :, :H].sum(axis=1) + dxs[:, :, :H].sum(axis=1) + dh, dh)


class Seq2seq(Composite):
    """An ``Encoder``, a ``Decoder`` and the mean loss of the answer.

    The decoder reads ``ts[:, :-1]`` and is asked for ``ts[:, 1:]``.

    Source: Sutskever et al. 2014; Saito, Deep Learning from Scratch 2, chapter 7.

    Args:
        vocab_size, wordvec_size, hidden_size: V, D, H, each >= 1.
        dtype: floating dtype of the parameters.
        rng: ``numpy.random.Generator`` that draws them; None for a fresh one.

    Raises:
        ValueError: a size below 1.
    """

    encoder: Any
    decoder: Any
    loss: TimeSoftmaxWithLoss
    encoder_class: type[Encoder] = Encoder
    decoder_class: type[Decoder] = Decoder

    def __init__(self, vocab_size: int, wordvec_size: int, hidden_size: int, *, dtype: DTypeLike = np.float32,
                 rng: np.random.Generator | None = None) -> None:
        sizes = model_sizes(self, vocab_size, wordvec_size, hidden_size)
        rng = np.random.default_rng() if rng is None else rng
        super().__init__(
            encoder=self.encoder_class(*sizes, dtype=dtype, rng=rng),
            decoder=self.decoder_class(*sizes, dtype=dtype, rng=rng),
            loss=TimeSoftmaxWithLoss(),
        )

    def score(self, xs: Array, ts_in: Array, mask: Array | None = None, *, lengths: Array | None = None) -> Array:
        """Logits of the next id at every step, the answer given.

        Args:
            xs: source ids ``(N, T)``, integer.
            ts_in: decoder input ids ``(N, U)``, integer.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``(N, U, V)``.

        Raises:
            IndexError: an id out of range.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        mask = check_masked(f"{type(self).__name__}.score", mask, lengths, xs=(xs, "int N T"))
        return self.decoder.forward(ts_in, *self._message(xs, mask))

    def _message(self, xs: Array, mask: Array | None) -> tuple[Array | None, ...]:
        """What the decoder gets of the source."""
        return (self.encoder.forward(xs, mask),)

    def forward(self, xs: Array, ts: Array, mask: Array | None = None, *, lengths: Array | None = None) -> Array:
        """Mean loss of the answer.

        Args:
            xs: source ids ``(N, T)``, integer.
            ts: start id and answer ids ``(N, U + 1)``, integer, U >= 1. Where an answer is padded at its end
                with ``loss.ignore_label``, it does not count.
            mask: boolean ``(N, T)``, true at valid source positions; None for all. The others change nothing.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            The loss, a scalar of the parameters' dtype, in nats.

        Raises:
            IndexError: an id out of range.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        where = f"{type(self).__name__}.forward"
        mask = check_masked(where, mask, lengths, xs=(xs, "int N T"), ts=(ts, "int N U"))
        if ts.shape[1] < 2:
            raise ValueError(f"{where}: ts has shape {ts.shape}, expected at least 2 columns, start id and answer")
        ts_in, ignored = ts[:, :-1], self.loss.ignore_label
        if not 0 <= ignored < len(self.decoder.embed.params[0]):
            ts_in = np.where(ts_in == ignored, 0, ts_in)  # no id; after it nothing counts
        loss = self.loss.forward(self.score(xs, ts_in, mask), ts[:, 1:])
        self._save()
        return loss

    def backward(self, dout: Array | float = 1) -> None:
        """Writes the gradients of the parameters; ids have none.

        Args:
            dout: cotangent of the loss, a scalar.

        Raises:
            RuntimeError: before ``forward``, or after ``generate``.
            ValueError: ``dout`` is not a scalar.
        """
        self._saved()
        self.encoder.backward(self.decoder.backward(self.loss.backward(dout)))

    def generate(self, xs: Array, start_id: int, sample_size: int, mask: Array | None = None, *,
                 lengths: Array | None = None, **how: Any) -> Any:
        """Answers, greedy or by beam search; among equals, the first.

        Args:
            xs: source ids ``(N, T)``, integer.
            start_id: first input id of the decoder.
            sample_size: number of ids, >= 0.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.
            end_id: id after which an answer is over: the rest of it are ``end_id`` too, and decoding stops when
                all are; None for none.
            beam_width: answers followed at every step, >= 1; 1 is greedy decoding.
            length_penalty: exponent, >= 0, of the length by which the log-probability of an answer is divided,
                its end counted; 0 divides by nothing.
            scores: whether to give the score of each answer too.

        Returns:
            ids ``(N, sample_size)``, integer; with ``scores`` a tuple of them and the log-probability of each
            answer, in nats, over its length as above: ``(N,)``, float64 or wider.

        Raises:
            IndexError: ``start_id`` or ``end_id`` out of range.
            TypeError: a dtype of the wrong kind, or a number that is no integer where one is needed.
            ValueError: shapes that do not fit, or a number out of its range.

        Source: Wu et al. 2016 for the length.
        """
        mask = check_masked(f"{type(self).__name__}.generate", mask, lengths, xs=(xs, "int N T"))
        message, *rest = self._message(xs, mask)
        return self.decoder.generate(message, start_id, sample_size, *rest, **how)


class PeekySeq2seq(Seq2seq):
    """A ``Seq2seq`` with a ``PeekyDecoder``; arguments and errors as there.

    Source: Saito, Deep Learning from Scratch 2, chapter 7.
    """

    decoder_class = PeekyDecoder


def model_sizes(model: Any, *sizes: int) -> tuple[int, ...]:
    """The size arguments of a model, each an integer >= 1."""
    names = ("vocab_size", "wordvec_size", "hidden_size")
    where = type(model).__name__
    for name, size in zip(names, sizes, strict=True):
        if integer(where, **{name: size}) < 1:
            raise ValueError(f"{where}: {name} is {size}, expected >= 1")
    return sizes
