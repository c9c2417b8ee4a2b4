"""Encoder, decoder and model with attention."""

import numpy as np

from ._checks import check
from ._layer import Composite
from .attention import TimeAttention
from .seq2seq import Decoder, Encoder, Seq2seq, embedding_and_lstm, model_sizes, output_affine


class AttentionEncoder(Encoder):
    """An ``Encoder`` that gives the states of all time steps; arguments as there.

    Source: Bahdanau et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    def forward(self, xs):
        """Reads the source.

        Args:
            xs: ids ``(N, T)``, integer, 0 <= id < V.

        Returns:
            ``hs`` ``(N, T, H)``: the state after every step.

        Raises:
            IndexError: an id out of range.
            TypeError: ``xs`` is not an integer array.
            ValueError: it does not have two axes, or T is 0.
        """
        super().forward(xs)
        (hs,) = self._saved()
        return hs

    def backward(self, dhs):
        """Writes the gradients of the parameters; ids have none.

        Args:
            dhs: cotangent of ``hs`` ``(N, T, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dhs`` has another shape than the output.
        """
        (hs,) = self._saved()
        self._check_cotangents(dhs=(dhs, hs.shape))
        self.embed.backward(self.lstm.backward(dhs))


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

    def __init__(self, vocab_size, wordvec_size, hidden_size, *, dtype=np.float32, rng=None):
        _, D, H = sizes = model_sizes(self, vocab_size, wordvec_size, hidden_size)
        rng = np.random.default_rng() if rng is None else rng
        Composite.__init__(self, **embedding_and_lstm(sizes, D, True, dtype, rng), attention=TimeAttention(),
                           affine=output_affine(sizes, 2 * H, dtype, rng))

    def forward(self, xs, enc_hs, mask=None):
        """Scores of the next id at every step.

        Args:
            xs: ids ``(N, U)``, integer, 0 <= id < V.
            enc_hs: encoder states ``(N, T, H)``, floating.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.

        Returns:
            ``score`` ``(N, U, V)``: logits.

        Raises:
            IndexError: an id out of range.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        self._check_states("forward", enc_hs, mask, xs=(xs, "int N U"))
        self.lstm.set_state(enc_hs[:, -1])
        score = self._attend(xs, enc_hs, mask)
        self._save(score.shape, enc_hs.shape)
        return score

    def _check_states(self, method, enc_hs, mask, **more):
        given = {} if mask is None else {"mask": (mask, "bool N T")}
        check(f"{type(self).__name__}.{method}", Wh=(self.lstm.params[1], "H 4H"), **more,
              enc_hs=(enc_hs, "N T H"), **given)

    def _attend(self, xs, enc_hs, mask):
        dec_hs = self.lstm.forward(self.embed.forward(xs))
        c = self.attention.forward(enc_hs, dec_hs, mask)
        return self.affine.forward(np.concatenate((c, dec_hs), axis=2))

    def backward(self, dscore):
        """Cotangent of the encoder states; writes the gradients of the parameters.

        Args:
            dscore: cotangent of ``score`` ``(N, U, V)``.

        Returns:
            ``denc_hs`` ``(N, T, H)``.

        Raises:
            RuntimeError: before ``forward``.
            ValueError: ``dscore`` has another shape than the output.
        """
        shape, (_, _, H) = self._saved()
        self._check_cotangents(dscore=(dscore, shape))
        dout = self.affine.backward(dscore)
        denc_hs, ddec_hs = self.attention.backward(dout[:, :, :H])
        self.embed.backward(self.lstm.backward(dout[:, :, H:] + ddec_hs))
        denc_hs[:, -1] += self.lstm.dh
        return denc_hs

    def generate(self, enc_hs, start_id, sample_size, mask=None):
        """Greedy decoding: at every step the id of the highest score, the first among equals.

        Args:
            enc_hs: encoder states ``(N, T, H)``, floating.
            start_id: first input id, 0 <= id < V.
            sample_size: number of ids, >= 0.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.

        Returns:
            ids ``(N, sample_size)``, integer.

        Raises:
            IndexError: ``start_id`` out of range.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit, or a negative size.
        """
        self._check_states("generate", enc_hs, mask)
        return self._greedy(enc_hs[:, -1], start_id, sample_size, lambda ids: self._attend(ids, enc_hs, mask))


class AttentionSeq2seq(Seq2seq):
    """A ``Seq2seq`` with attention; arguments and errors as there.

    Attributes:
        attention_weights: list of the weights ``(N, T)`` of each decoder step of the last ``forward``.

    Source: Luong et al. 2015; Saito, Deep Learning from Scratch 2, chapter 8.
    """

    encoder_class = AttentionEncoder
    decoder_class = AttentionDecoder

    @property
    def attention_weights(self):
        return self.decoder.attention.attention_weights

    def score(self, xs, ts_in, mask=None):
        """Logits of the next id at every step, the answer given.

        Args:
            xs: source ids ``(N, T)``, integer.
            ts_in: decoder input ids ``(N, U)``, integer.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.

        Returns:
            ``(N, U, V)``.

        Raises:
            IndexError: an id out of range.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        return self.decoder.forward(ts_in, self.encoder.forward(xs), mask)

    def forward(self, xs, ts, mask=None):
        """Mean loss of the answer.

        Args:
            xs: source ids ``(N, T)``, integer.
            ts: start id and answer ids ``(N, U + 1)``, integer, U >= 1.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.

        Returns:
            The loss, a scalar of the parameters' dtype, in nats.

        Raises:
            IndexError: an id out of range.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit.
        """
        return self._loss(xs, ts, lambda xs, ts_in: self.score(xs, ts_in, mask))

    def generate(self, xs, start_id, sample_size, mask=None):
        """Greedy answers.

        Args:
            xs: source ids ``(N, T)``, integer.
            start_id: first input id of the decoder.
            sample_size: number of ids, >= 0.
            mask: boolean ``(N, T)``, true at valid source positions; None for all.

        Returns:
            ids ``(N, sample_size)``, integer.

        Raises:
            IndexError: an id out of range.
            TypeError: a dtype of the wrong kind.
            ValueError: shapes that do not fit, or a negative size.
        """
        return self.decoder.generate(self.encoder.forward(xs), start_id, sample_size, mask)
