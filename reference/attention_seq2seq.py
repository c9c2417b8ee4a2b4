"""Encoder, decoder and model with attention."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ._checks import check_masked
from ._layer import Composite
from ._types import Array
from .attention import TimeAttention, valid
from .seq2seq import Decoder, Encoder, Seq2seq, embedding_and_lstm, model_sizes, output_affine


class AttentionEncoder(Encoder):
    """An ``Encoder`` that gives the states of all time steps; arguments as there.

    Source: Bahdanau et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    def forward(self, xs: Array, mask: Array | None = None, *, lengths: Array | None = None) -> Array:
        """Reads the source.

        Args:
            xs: ids ``(N, T)``, integer, 0 <= id < V where they are valid.
            mask: boolean ``(N, T)``, true at valid positions; None for all. The others, wherever they stand, are
                not read: each sample gets what it gets without them.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``hs`` ``(N, T, H)``: the state after every step; at one that is not valid, that of the last before it
            that is, zero where there is none.

        Raises:
            IndexError: an id out of range.
            TypeError: ``xs`` is not an integer array, or ``mask`` not boolean.
            ValueError: shapes that do not fit, or T is 0.
        """
        return self._read(xs, mask, lengths)

    def backward(self, dhs: Array) -> None:
        """Writes the gradients of the parameters; ids have none.

        Args:
            dhs: cotangent of ``hs`` ``(N, T, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dhs`` has another shape than the output.
        """
        shape, _, _ = self._saved()
        self._check_cotangents(dhs=(dhs, shape))
        self._read_backward(dhs)


class AttentionDecoder(Decoder):
    """A ``Decoder`` whose affine map sees the context beside each state: ``concatenate((c, dec_hs))``.

    Source: Luong et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.

    Args:
        vocab_size, wordvec_size, hidden_size: V, D, H, each >= 1.
        dtype: floating dtype of the parameters.
        rng: ``numpy.random.Generator`` that draws them; None for a fresh one.

    Raises:
        ValueError: a size below 1.
    """

    attention: TimeAttention

    def __init__(self, vocab_size: int, wordvec_size: int, hidden_size: int, *, dtype: DTypeLike = np.float32,
                 rng: np.random.Generator | None = None) -> None:
        _, D, H = sizes = model_sizes(self, vocab_size, wordvec_size, hidden_size)
        rng = np.random.default_rng() if rng is None else rng
        Composite.__init__(self, **embedding_and_lstm(sizes, D, True, dtype, rng), attention=TimeAttention(),
                           affine=output_affine(sizes, 2 * H, dtype, rng))

    def forward(self, xs: Array, enc_hs: Array, mask: Array | None = None, *, lengths: Array | None = None) -> Array:
        """Scores of the next id at every step.

        Args:
            xs: ids ``(N, U)``, integer, 0 <= id < V.
            enc_hs: encoder states ``(N, T, H)``, floating.
            mask: boolean ``(N, T)``, true at valid source positions; None for all. The decoder starts from the state
                at the last of them, and what stands elsewhere changes nothing.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``score`` ``(N, U, V)``: logits.

        Raises:
            IndexError: an id out of range.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        mask = self._check_states("forward", enc_hs, mask, lengths, xs=(xs, "int N U"))
        enc_hs, last = valid(enc_hs, mask), last_valid(enc_hs, mask)
        self.lstm.set_state(enc_hs[last])
        score = self._scores(xs, enc_hs, mask)
        self._save(score.shape, enc_hs.shape, last, mask)
        return score

    def _check_states(self, method: str, enc_hs: Array, mask: Array | None, lengths: Array | None,
                      **more: tuple[Array, str]) -> Array | None:
        return check_masked(f"{type(self).__name__}.{method}", mask, lengths, Wh=(self.lstm.params[1], "H 4H"), **more,
                            enc_hs=(enc_hs, "N T H"))

    def _scores(self, xs: Array, enc_hs: Array, mask: Array | None = None) -> Array:
        dec_hs = self.lstm.forward(self.embed.forward(xs))
        c = self.attention.forward(enc_hs, dec_hs, mask)
        return self.affine.forward(np.concatenate((c, dec_hs), axis=2))

    def backward(self, dscore: Array) -> Array:
        """Cotangent of the encoder states; writes the gradients of the parameters.

        Args:
            dscore: cotangent of ``score`` ``(N, U, V)``.

        Returns:
            ``denc_hs`` ``(N, T, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dscore`` has another shape than the output.
        """
        shape, (_, _, H), last, mask = self._saved()
        self._check_cotangents(dscore=(dscore, shape))
        dout = self.affine.backward(dscore)
        denc_hs, ddec_hs = self.attention.backward(dout[:, :, :H])
        self.embed.backward(self.lstm.backward(dout[:, :, H:] + ddec_hs))
        denc_hs[last] += self.lstm.dh
        return valid(denc_hs, mask)

    # a mask may come by its place, where the supertype takes what has a name alone
    def generate(self, enc_hs: Array, start_id: int, sample_size: int,  # type: ignore[override]
                 mask: Array | None = None, *, lengths: Array | None = None, **how: Any) -> Any:
        """Decoding, greedy or by beam search; among equals, the first.

        Args:
            enc_hs: encoder states ``(N, T, H)``, floating.
            start_id: first input id, 0 <= id < V.
            sample_size: number of ids, >= 0.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.
            how: ``end_id``, ``beam_width``, ``length_penalty``, ``scores``, as in ``Seq2seq.generate``.

        Returns:
            As there.

        Raises:
            As there.
        """
        mask = self._check_states("generate", enc_hs, mask, lengths)
        enc_hs, last = valid(enc_hs, mask), last_valid(enc_hs, mask)
        return self._search(enc_hs[last], (enc_hs, mask), start_id, sample_size, **how)

    def _kept(self) -> list[Array]:
        return self.attention.attention_weights or []

    def _keep(self, steps: list[Array]) -> None:
        self.attention.attention_weights = steps


def last_valid(hs: Array, mask: Array | None) -> tuple[Array, Array]:
    """Index of the last valid state of each row ``(N, T, H)``; of the last, which is zero, where none is."""
    T = hs.shape[1]
    last = np.full(len(hs), T - 1) if mask is None else T - 1 - mask[:, ::-1].argmax(axis=1)
    return np.arange(len(hs)), last


class AttentionSeq2seq(Seq2seq):
    """A ``Seq2seq`` with attention; arguments and errors as there.

    Attributes:
        attention_weights: list of the weights ``(N, T)`` of each decoder step of the last ``forward`` or
            ``generate``; of a beam, those of the answer that is given.

    Source: Luong et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    encoder_class = AttentionEncoder
    decoder_class = AttentionDecoder

    @property
    def attention_weights(self) -> list[Array] | None:
        return self.decoder.attention.attention_weights

    def _message(self, xs: Array, mask: Array | None) -> tuple[Array | None, ...]:
        return self.encoder.forward(xs, mask), mask
