"""Encoder, decoder and model with attention."""

from typing import Any

import torch
from torch import Tensor

from .attention import TimeAttention, valid
from .seq2seq import DecoderBase, Encoder, Seq2seq, State


class AttentionEncoder(Encoder):
    """An ``Encoder`` that gives the states of all time steps; arguments as there.

    Source: Bahdanau et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    def forward(self, xs: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None) -> Tensor:
        """Reads the source.

        Args:
            xs: ids ``(N, T)``, integer, 0 <= id < V where they are valid.
            mask: boolean ``(N, T)``, true at valid positions; None for all. The others, wherever
                they stand, are not read: each sample gets what it gets without them.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``hs`` ``(N, T, H)``: the state after every step; at one that is not valid, that of the
            last before it that is, zero where there is none.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: ``xs`` is not an integer tensor, or ``mask`` not boolean.
            ValueError: shapes that do not fit, or T is 0.
        """
        return self._read(xs, mask, lengths)


class AttentionDecoder(DecoderBase):
    """A decoder whose affine map sees the context beside each state: ``concatenate((c, dec_hs))``.

    Source: Luong et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    beside = (0, 1)
    attention: TimeAttention

    def _build(self, V: int, D: int, H: int, **factory: Any) -> None:
        super()._build(V, D, H, **factory)
        self.attention = TimeAttention()

    def forward(
        self, xs: Tensor, enc_hs: Tensor, mask: Tensor | None = None, *, lengths: Tensor | None = None
    ) -> Tensor:
        """Scores of the next id at every step.

        Args:
            xs: ids ``(N, U)``, integer, 0 <= id < V.
            enc_hs: encoder states ``(N, T, H)``, dtype of the weights (any floating one under
                autocast).
            mask: boolean ``(N, T)``, true at valid source positions; None for all. The decoder
                starts from the state at the last of them, and what stands elsewhere changes nothing.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.

        Returns:
            ``score`` ``(N, U, V)``: logits.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        _, mask = self._check("forward", mask, lengths, xs=(xs, "int N U"), enc_hs=(enc_hs, "N T H"))
        return self._decode(xs, (self._first(enc_hs, mask), None), enc_hs, mask)[0]

    def generate(
        self,
        enc_hs: Tensor,
        start_id: int,
        sample_size: int,
        mask: Tensor | None = None,
        *,
        lengths: Tensor | None = None,
        **how: Any,
    ) -> Any:
        """Decoding, greedy or by beam search; among equals, the first.

        Args:
            enc_hs: encoder states ``(N, T, H)``, dtype of the weights (any floating one under
                autocast).
            start_id: first input id, 0 <= id < V.
            sample_size: number of ids, >= 0.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.
            lengths: instead of ``mask``, integer ``(N,)``: of each row so many from the first are valid.
            how: ``end_id``, ``beam_width``, ``length_penalty``, ``scores``, as in
                ``Seq2seq.generate``.

        Returns:
            As there.

        Raises:
            As there.
        """
        where, mask = self._check("generate", mask, lengths, enc_hs=(enc_hs, "N T H"))
        return self._search(where, self._first(enc_hs, mask), start_id, sample_size, enc_hs, mask, **how)

    def _kept(self) -> list[Tensor]:
        return self.attention.attention_weights or []

    def _keep(self, steps: list[Tensor]) -> None:
        self.attention._weights = torch.stack(steps, dim=1) if steps else torch.empty(0, 0)

    def _first(self, *source: Any) -> Tensor:
        return last_valid(*source)

    def _decode(self, xs: Tensor, state: State, *source: Any) -> tuple[Tensor, State]:
        enc_hs, mask = source
        dec_hs, state = self.lstm(self.embed(xs), state=state)
        c = self.attention(enc_hs, dec_hs, mask)
        return self.affine(torch.cat((c, dec_hs), dim=2)), state


def last_valid(hs: Tensor, mask: Tensor | None) -> Tensor:
    """The last valid state ``(N, H)`` of each row of ``(N, T, H)``; zero where none is."""
    if mask is None:
        return hs[:, -1]
    from_behind = mask.flip(1).long().argmax(dim=1)  # the first of equals
    last = (hs.shape[1] - 1 - from_behind)[:, None, None].expand(-1, 1, hs.shape[2])
    return valid(hs, mask).gather(1, last)[:, 0]


class AttentionSeq2seq(Seq2seq):
    """A ``Seq2seq`` with attention; arguments and errors as there.

    Source: Luong et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    encoder_class = AttentionEncoder
    decoder_class = AttentionDecoder

    @property
    def attention_weights(self) -> list[Tensor] | None:
        """The weights of the decoder's attention, detached: a list of ``(N, T)``, one a step.

        Those of the last ``forward`` or ``generate``; of a beam, those of the answer that is given.
        """
        attention: TimeAttention = self.decoder.attention  # type: ignore[assignment]
        return attention.attention_weights

    def _message(self, xs: Tensor, mask: Tensor | None) -> tuple[Tensor | None, ...]:
        return self.encoder(xs, mask), mask
