"""Encoder, decoder and model with attention."""

from typing import Any

import torch
from torch import Tensor

from .attention import TimeAttention, mask_axes
from .seq2seq import DecoderBase, Encoder, Seq2seq, State


class AttentionEncoder(Encoder):
    """An ``Encoder`` that gives the states of all time steps; arguments as there.

    Source: Bahdanau et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    def forward(self, xs: Tensor) -> Tensor:
        """Reads the source.

        Args:
            xs: ids ``(N, T)``, integer, 0 <= id < V.

        Returns:
            ``hs`` ``(N, T, H)``: the state after every step.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: ``xs`` is not an integer tensor.
            ValueError: it does not have two axes, or T is 0.
        """
        return self._read(xs)


class AttentionDecoder(DecoderBase):
    """A decoder whose affine map sees the context beside each state: ``concatenate((c, dec_hs))``.

    Source: Luong et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    beside = (0, 1)

    def _build(self, V: int, D: int, H: int, **factory: Any) -> None:
        super()._build(V, D, H, **factory)
        self.attention = TimeAttention()

    def forward(self, xs: Tensor, enc_hs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores of the next id at every step.

        Args:
            xs: ids ``(N, U)``, integer, 0 <= id < V.
            enc_hs: encoder states ``(N, T, H)``, dtype of the weights (any floating one under
                autocast).
            mask: boolean ``(N, T)``, true at valid source positions; None for all.

        Returns:
            ``score`` ``(N, U, V)``: logits.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        self._check("forward", xs=(xs, "int N U"), enc_hs=(enc_hs, "N T H"), **mask_axes(mask))
        return self._decode(xs, (enc_hs[:, -1], None), enc_hs, mask)[0]

    def generate(
        self, enc_hs: Tensor, start_id: int, sample_size: int, mask: Tensor | None = None
    ) -> Tensor:
        """Greedy decoding: at every step the id of the highest score, the first among equals.

        Args:
            enc_hs: encoder states ``(N, T, H)``, dtype of the weights (any floating one under
                autocast).
            start_id: first input id, 0 <= id < V.
            sample_size: number of ids, >= 0.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.

        Returns:
            ids ``(N, sample_size)``, int64.

        Raises:
            IndexError: ``start_id`` out of range.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit, or a negative size.
        """
        where = self._check("generate", enc_hs=(enc_hs, "N T H"), **mask_axes(mask))
        return self._greedy(where, enc_hs[:, -1], start_id, sample_size, enc_hs, mask)

    def _decode(self, xs: Tensor, state: State, *source: Any) -> tuple[Tensor, State]:
        enc_hs, mask = source
        dec_hs, state = self.lstm(self.embed(xs), state=state)
        c = self.attention(enc_hs, dec_hs, mask)
        return self.affine(torch.cat((c, dec_hs), dim=2)), state


class AttentionSeq2seq(Seq2seq):
    """A ``Seq2seq`` with attention; arguments and errors as there.

    Source: Luong et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    encoder_class = AttentionEncoder
    decoder_class = AttentionDecoder

    @property
    def attention_weights(self) -> list[Tensor] | None:
        """The weights of the decoder's attention: see ``TimeAttention``."""
        attention: TimeAttention = self.decoder.attention  # type: ignore[assignment]
        return attention.attention_weights

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
        score: Tensor = self.decoder(ts_in, self.encoder(xs), mask)
        return score

    def forward(self, xs: Tensor, ts: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean loss of the answer.

        Args:
            xs: source ids ``(N, T)``, integer.
            ts: start id and answer ids ``(N, U + 1)``, integer, U >= 1.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.

        Returns:
            The loss, a scalar of the parameters' dtype (float32 under autocast), in nats.

        Raises:
            IndexError: an id out of range (on CUDA, see ``index_checks``).
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        ts_in, ts_out = self._split(xs, ts)
        loss: Tensor = self.loss(self.score(xs, ts_in, mask), ts_out)
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
        return self.decoder.generate(self.encoder(xs), start_id, sample_size, mask)
