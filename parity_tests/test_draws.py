"""What is drawn is drawn anew: no long mask, no order of rows and no data set repeats itself."""

import numpy as np
import pytest
import torch.nn.functional

import reference
from parity.catalogue import CATALOGUE
from parity.promises import CHECKS
from parity.promises.common import repeated
from reference.batches import batches
from reference.data import date_lines, load_data

DRAWN = np.random.default_rng(0).random(200_003) < 0.3


@pytest.mark.parametrize("change", [
    lambda x: np.concatenate((x[:100_000], x[:100_003])),
    lambda x: np.resize(x[:255], x.shape),
    lambda x: np.concatenate((x[:-8_000], x[31:8_031])),
    lambda x: np.concatenate((x[:100_000], x[:100_000][::-1])),
    lambda x: np.concatenate((x[:100_000], ~x[:100_000])),
    lambda x: np.repeat(x[: len(x) // 16], 16),
], ids=["twice", "again and again", "a part", "backwards", "turned round", "each some times"])
def test_what_repeats_itself_is_seen(change):
    assert repeated(DRAWN) == "" and "correlation" in repeated(change(DRAWN))


def test_independent_numbers_do_not_repeat_themselves():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert repeated(rng.random((3, 20_001)) < rng.uniform(0.01, 0.99)) == ""
        assert repeated(rng.standard_normal(50_000)) == ""


@pytest.mark.parametrize("side", ["reference", "port"])
def test_a_mask_that_repeats_itself_breaks_the_promise(monkeypatch, side):
    spec = CATALOGUE["TimeDropout"]
    CHECKS["textbook"][side]["drawn"](spec)

    class Short:
        """Draws as many numbers as 16 bits count, again and again."""

        def __init__(self, rng):
            self.rng = rng

        def random(self, shape):
            return np.resize(self.rng.random(min(int(np.prod(shape)), 1 << 16)), shape)

    real, dropout = np.random.default_rng, torch.nn.functional.dropout

    def short(x, ratio):
        drawn = dropout(x.flatten()[: 1 << 16], ratio)
        return drawn.repeat(x.numel() // len(drawn) + 1)[: x.numel()].reshape(x.shape)

    monkeypatch.setattr(np.random, "default_rng", lambda seed=None: Short(real(seed)) if seed == 0 else real(seed))
    monkeypatch.setattr(torch.nn.functional, "dropout", short)
    with pytest.raises(AssertionError, match="repeats itself"):
        CHECKS["textbook"][side]["drawn"](spec)


@pytest.mark.parametrize("size", [0, 1, 255, 257, 32_769, 65_535, 65_536, 65_537, 131_073])
def test_an_epoch_is_one_permutation_of_the_generator_at_any_size(size):
    for batch_size in (1 + size // 3, size + 1):
        rng, other = np.random.default_rng(size), np.random.default_rng(size)
        order = batches(size, batch_size, rng)
        assert np.array_equal(np.concatenate([np.zeros(0, int), *order]), other.permutation(size))
        assert rng.random() == other.random()  # a continued run goes on from there


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["Unix", "Windows", "old Mac"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
def test_line_endings_are_no_part_of_the_answer(tmp_path, end, last):
    path = tmp_path / "data"
    path.write_bytes(end.join(["12_3", "45_9", "67_8"]).encode() + last * end.encode())
    (x, t), _, vocabulary = load_data(path, seed=None)
    assert "".join(vocabulary.char_to_id) == "12_345967 8".replace(" ", "")
    assert x.tolist() == [[0, 1], [4, 5], [7, 8]] and t.tolist() == [[2, 3], [2, 6], [2, 9]]


def test_a_file_of_more_lines_than_16_bits_count_is_read_whole_and_shuffled_by_the_legacy_generator(tmp_path):
    size = 70_001
    path = tmp_path / "data"
    path.write_text("".join(f"{i:05}_{i % 7}\n" for i in range(size)), encoding="utf-8")
    (x, t), (x_test, t_test), vocabulary = load_data(path, seed=3)
    order, digits = np.arange(size), np.array([int(c) if c.isdigit() else 0 for c in vocabulary.char_to_id])
    np.random.RandomState(3).shuffle(order)
    rows = digits[np.concatenate((x, x_test))] @ 10 ** np.arange(4, -1, -1)
    assert len(x_test) == size // 10 and np.array_equal(rows, order)
    assert np.array_equal(digits[np.concatenate((t, t_test))[:, 1]], order % 7)


def test_dates_that_are_drawn_do_not_repeat_themselves():
    lines = date_lines(70_001)
    for place, name in ((slice(31, 41), "date"), (slice(0, 3), "form")):
        numbers = np.unique([line[place] for line in lines], return_inverse=True)[1]
        assert repeated(numbers) == "", name
    assert lines[:1000] != date_lines(70_001, seed=1)[:1000]


def test_initial_weights_do_not_repeat_themselves():
    model = reference.AttentionSeq2seq(300, 100, 150, rng=np.random.default_rng(0))
    drawn = {name: p for name, p in zip(model.param_names, model.params, strict=True) if p.any()}
    assert max(p.size for p in drawn.values()) > 1 << 16
    numbers = np.concatenate([(p / p.std()).ravel() for p in drawn.values()])
    assert repeated(numbers) == ""
