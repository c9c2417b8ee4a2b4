"""Weights in files, between the two sides, and from and to torch's own modules."""

import argparse
import os
import pickle
import struct

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from torch import nn

import reference
import torch_port
from parity.training import convert
from reference.trainer import MODELS
from torch_port.stock import PAIRS

SIZES = (5, 3, 4)


def model_and_twin(name="attention", dtype=np.float32, seed=0):
    model = MODELS[name](*SIZES, dtype=dtype, rng=np.random.default_rng(seed))
    return model, getattr(torch_port, type(model).__name__).from_reference(model)


def same_bits(arrays, others):
    return all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
               for a, b in zip(arrays, others, strict=True))


def load(side, model, twin, path):
    if side == "reference":
        reference.load_params(model, path)
    else:
        torch_port.load_params(twin, path)


def halves(model):
    return [p.astype(np.float16) for p in model.params]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("name", MODELS)
def test_safetensors_goes_between_the_sides_bit_for_bit(tmp_path, name, dtype):
    model, twin = model_and_twin(name, dtype)
    model.params[0].flat[:4] = -0.0, np.nan, np.inf, np.finfo(dtype).smallest_subnormal
    reference.save_params(model, tmp_path / "a.safetensors")
    torch_port.load_params(twin, tmp_path / "a.safetensors")
    torch_port.save_params(twin, tmp_path / "b.safetensors")
    other, _ = model_and_twin(name, dtype, seed=1)
    reference.load_params(other, tmp_path / "b.safetensors")
    assert same_bits(model.params, twin.reference_params())
    assert same_bits(model.params, other.params)
    assert set(safetensors.numpy.load_file(tmp_path / "b.safetensors")) == set(model.param_names)


def test_bfloat16_is_written_as_float32_and_never_rounded_into(tmp_path):
    model, twin = model_and_twin()
    twin = twin.to(torch.bfloat16)
    torch_port.save_params(twin, tmp_path / "b.safetensors")
    reference.load_params(model, tmp_path / "b.safetensors")
    _, other = model_and_twin(seed=1)
    other = other.to(torch.bfloat16)
    torch_port.load_params(other, tmp_path / "b.safetensors")
    assert same_bits(model.params, other.reference_params())
    model.params[3][0] = 1 + 2**-20
    reference.save_params(model, tmp_path / "a.safetensors")
    before = twin.reference_params()
    with pytest.raises(ValueError, match="would round"):
        torch_port.load_params(twin, tmp_path / "a.safetensors")
    assert same_bits(before, twin.reference_params())


@pytest.mark.parametrize("name", MODELS)
def test_the_textbooks_pickle_goes_both_ways(tmp_path, name):
    model, twin = model_and_twin(name)
    reference.save_params(model, tmp_path / "a.pkl")
    assert same_bits(pickle.loads((tmp_path / "a.pkl").read_bytes()), halves(model))
    torch_port.load_params(twin, tmp_path / "a.pkl")
    torch_port.save_params(twin, tmp_path / "b.pkl")
    assert (tmp_path / "a.pkl").read_bytes() == (tmp_path / "b.pkl").read_bytes()
    reference.load_params(model, tmp_path / "b.pkl")
    assert same_bits(model.params, twin.reference_params())


def old_name(model):
    return pickle.dumps(halves(model), protocol=3).replace(b"numpy._core.", b"numpy.core.")


GOOD = {
    "protocol 3, old module name": old_name,
    "protocol 4": lambda model: pickle.dumps(halves(model), protocol=4),
    "Fortran order": lambda model: pickle.dumps([np.asfortranarray(p) for p in halves(model)], protocol=4),
    "big endian": lambda model: pickle.dumps([p.astype(">f2") for p in model.params], protocol=4),
    "float64": lambda model: pickle.dumps([p.astype(np.float64) for p in halves(model)], protocol=4),
}


@pytest.mark.parametrize("case", GOOD)
def test_pickles_of_plain_arrays_load(tmp_path, case):
    model, twin = model_and_twin()
    expected = [p.astype(np.float32) for p in halves(model)]
    (tmp_path / "a.pkl").write_bytes(GOOD[case](model))
    reference.load_params(model, tmp_path / "a.pkl")
    torch_port.load_params(twin, tmp_path / "a.pkl")
    assert same_bits(model.params, expected)
    assert same_bits(twin.reference_params(), expected)


class Call:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Build:
    """Pickles as numpy.dtype("f2", False, True) given ``state``."""

    def __init__(self, state):
        self.state = state

    def __reduce__(self):
        return np.dtype, ("f2", False, True), self.state


def altered(model, change):
    arrays = halves(model)
    change(arrays)
    return pickle.dumps(arrays, protocol=4)


def with_shape(model, shape):
    """A list of one array that claims another shape than its bytes have."""
    return pickle.dumps(halves(model)[3:4], protocol=4).replace(b"K\x10\x85", shape, 1)


BAD = {  # what stands in the file, and what the message has to say
    "posix.system": (lambda m: pickle.dumps([Call(os.system, "echo > ran")], 4), "system is refused"),
    "builtins.eval": (lambda m: pickle.dumps([Call(eval, "open('ran', 'w')")], 3), "eval is refused"),
    "protocol 0": (lambda m: b"cos\nsystem\n(S'echo > ran'\ntR.", "os.system is refused"),
    "opcode INST": (lambda m: b"(S'echo > ran'\nios\nsystem\n.", "os.system is refused"),
    "NumPy's own evaluator": (lambda m: b"cnumpy.f2py.crackfortran\nmyeval\n(S'1'\ntR.", "myeval is refused"),
    "protocol 5": (lambda m: pickle.dumps(halves(m), protocol=5), "_frombuffer is refused"),
    "subclass": (lambda m: pickle.dumps([np.ma.masked_array(p) for p in m.params], protocol=4), "is refused"),
    "ndarray called": (lambda m: b"cnumpy\nndarray\n((I9999999999999\nttR.", "not callable"),
    "state for a function": (lambda m: b"cnumpy\ndtype\n}b.", "a state for a function"),
    "state for the allowed list": (lambda m: b"cnumpy\nndarray\n}S'x'\nI1\nsb.", "not a pickled list"),
    "byte order": (lambda m: pickle.dumps([Build((3, "O"))], protocol=4), "byte order"),
    "memo of gigabytes": (lambda m: b"]r" + struct.pack("<I", 2**31 - 1) + b".", "memo index"),
    "length of gigabytes": (lambda m: b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".", "not a pickled"),
    "object array": (lambda m: altered(m, lambda a: a.__setitem__(3, np.array([None] * 16))), "dtype 'O8'"),
    "integers": (lambda m: altered(m, lambda a: a.__setitem__(3, np.zeros(16, int))), "dtype 'i8'"),
    "shape beyond the bytes": (lambda m: with_shape(m, b"M\xff\xff\x85"), "32 bytes for an array of shape"),
    "negative shape": (lambda m: with_shape(m, b"J\xff\xff\xff\xff\x85"), "32 bytes for an array of shape"),
    "negative shapes": (lambda m: with_shape(m, b"J\xff\xff\xff\xffJ\xf0\xff\xff\xff\x86"), "not a pickled"),
    "no bytes": (lambda m: pickle.dumps(Call(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b"), 4)[:-1]
                 + b"(K\x01K\x10\x85K\x00\x89]tb.", "an array of 0 made of a list"),
    "truncated": (lambda m: pickle.dumps(halves(m), protocol=4)[:-40], "not a pickled list"),
    "empty": (lambda m: b"", "not a pickled list"),
    "something behind": (lambda m: pickle.dumps(halves(m), protocol=4) + b"x", "follows the end"),
    "oversized": (lambda m: altered(m, lambda a: a.append(np.zeros(50_000))), "bytes, expected at most"),
    "too few": (lambda m: altered(m, lambda a: a.pop()), "9 arrays, expected 10"),
    "too many": (lambda m: altered(m, lambda a: a.append(a[0])), "11 arrays, expected 10"),
    "wrong shape": (lambda m: altered(m, lambda a: a.__setitem__(1, a[1].T)),
                    r"encoder.lstm.Wx has shape \(16, 3\), expected \(3, 16\)"),
    "wrong last shape": (lambda m: altered(m, lambda a: a.__setitem__(9, a[9][:3])), "decoder.affine.b has"),
    "no list": (lambda m: pickle.dumps(dict(enumerate(halves(m))), protocol=4), "holds a dict"),
    "no array": (lambda m: altered(m, lambda a: a.__setitem__(3, [1.0] * 16)), "element 3"),
    "a dtype": (lambda m: altered(m, lambda a: a.__setitem__(3, np.dtype("f2"))), "element 3"),
    "array without state": (lambda m: altered(m, lambda a: a.__setitem__(3, Call(
        np._core.multiarray._reconstruct, np.ndarray, (0,), b"b"))), "element 3"),
    "values to round": (lambda m: altered(m, lambda a: a.__setitem__(3, np.full(16, 0.1))), "would round"),
}


@pytest.mark.parametrize("side", ["reference", "port"])
@pytest.mark.parametrize("case", BAD)
def test_bad_pickles_are_refused_and_the_model_stays(tmp_path, monkeypatch, case, side):
    monkeypatch.chdir(tmp_path)
    model, twin = model_and_twin()
    make, message = BAD[case]
    (tmp_path / "a.pkl").write_bytes(make(model))
    before = [p.copy() for p in model.params]
    with pytest.raises(ValueError, match=message) as refused:
        load(side, model, twin, "a.pkl")
    assert str(refused.value).startswith("a.pkl: ")
    assert os.listdir(tmp_path) == ["a.pkl"]  # nothing ran
    assert same_bits(before, model.params)
    assert same_bits(before, twin.reference_params())


def drop(tensors):
    tensors.pop("encoder.lstm.b")


def rename(tensors):
    tensors["encoder.lstm.bias"] = tensors.pop("encoder.lstm.b")


def add(tensors):
    tensors["more"] = np.zeros(3, np.float32)


def transpose(tensors):
    tensors["encoder.lstm.Wx"] = np.ascontiguousarray(tensors["encoder.lstm.Wx"].T)


def widen(tensors):
    tensors["encoder.lstm.b"] = np.full(16, 0.1)


@pytest.mark.parametrize("side", ["reference", "port"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"missing: encoder.lstm.b \(16,\); unknown: none"),
        (rename, r"missing: encoder.lstm.b \(16,\); unknown: encoder.lstm.bias \(16,\)"),
        (add, r"missing: none; unknown: more \(3,\)"),
        (transpose, r"encoder.lstm.Wx has shape \(16, 3\), expected \(3, 16\)"),
        (widen, "encoder.lstm.b holds float64 values that float32, the dtype of the parameter, would round"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_safetensors_are_refused_and_the_model_stays(tmp_path, change, message, side):
    model, twin = model_and_twin()
    tensors = dict(zip(model.param_names, [p + 1 for p in model.params], strict=True))
    change(tensors)
    safetensors.numpy.save_file(tensors, tmp_path / "a.safetensors")
    before = [p.copy() for p in model.params]
    with pytest.raises(ValueError, match=message):
        load(side, model, twin, tmp_path / "a.safetensors")
    assert same_bits(before, model.params)
    assert same_bits(before, twin.reference_params())


def test_what_no_format_has_is_refused(tmp_path):
    model, _ = model_and_twin()
    with pytest.raises(ValueError, match=r"ends in '.npz', expected one of .safetensors, .pkl"):
        reference.save_params(model, tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError):
        reference.load_params(model, tmp_path / "a.pkl")
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(ValueError, match=r"not a .safetensors file"):
        reference.load_params(model, tmp_path / "a.safetensors")
    stored = zip(model.param_names, map(torch.from_numpy, model.params), strict=True)
    safetensors.torch.save_file({name: p.bfloat16() for name, p in stored}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="BF16"):
        reference.load_params(model, tmp_path / "a.safetensors")
    model.params[3][0] = 7e4
    with pytest.raises(ValueError, match=r"encoder.lstm.b goes to 70000.0, .pkl is float16 and goes to 65504"):
        reference.save_params(model, tmp_path / "a.pkl")
    model.bind([p.astype(np.longdouble) for p in model.params])
    with pytest.raises(ValueError, match=r"not for \.safetensors"):
        reference.save_params(model, tmp_path / "a.safetensors")


@pytest.mark.parametrize("ending", [".safetensors", ".pkl"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, ending):
    model, twin = model_and_twin()
    path = tmp_path / f"a{ending}"
    reference.save_params(model, path)
    old = path.read_bytes()

    def fail(*paths):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    for save, thing in ((reference.save_params, model), (torch_port.save_params, twin.double())):
        with pytest.raises(OSError, match="no space"):
            save(thing, path)
    assert path.read_bytes() == old
    assert os.listdir(tmp_path) == [path.name]


def run_convert(*paths):
    parser = argparse.ArgumentParser()
    convert.arguments(parser)
    return convert.run(parser.parse_args([str(path) for path in paths]))


@pytest.mark.parametrize("name", MODELS)
def test_convert_there_and_back(tmp_path, capsys, name):
    model, twin = model_and_twin(name)
    a, b, c, d = (tmp_path / f for f in ("a.pkl", "b.safetensors", "c.pkl", "d.pkl"))
    reference.save_params(model, a)
    assert run_convert(a, b) == 0
    assert f"{name} model, float16, bit for bit" in capsys.readouterr().out
    torch_port.load_params(twin, b)
    assert same_bits(twin.reference_params(), [p.astype(np.float32) for p in halves(model)])
    assert run_convert(b, c) == 0
    assert a.read_bytes() == c.read_bytes()
    reference.save_params(model, b)
    assert run_convert(b, d) == 0
    assert "float32, rounded by up to" in capsys.readouterr().out
    assert a.read_bytes() == d.read_bytes()


def test_convert_refuses_what_is_no_model(tmp_path, capsys):
    layer = reference.TimeAffine(np.zeros((3, 2)), np.zeros(2))
    reference.save_params(layer, tmp_path / "a.safetensors")
    assert run_convert(tmp_path / "a.safetensors", tmp_path / "b.pkl") == 1
    assert "holds 2 arrays: W, b, expected the 10 of a seq2seq model" in capsys.readouterr().err
    for wrong in (lambda a: a.__setitem__(1, a[1].T), lambda a: a.__setitem__(2, np.zeros((0, 0)))):
        model, _ = model_and_twin()
        (tmp_path / "a.pkl").write_bytes(altered(model, wrong))
        assert run_convert(tmp_path / "a.pkl", tmp_path / "b.safetensors") == 1
        assert "fit none of the models attention, peeky, plain" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"ends in '.txt'"):
        run_convert(tmp_path / "a.pkl", tmp_path / "b.txt")
    assert sorted(os.listdir(tmp_path)) == ["a.pkl", "a.safetensors"]


def layer_options(pair):
    if "bidirectional" not in pair.needs:
        return {}
    return {"batch_first": True, "bidirectional": pair.needs["bidirectional"]}


def stock_of(pair):
    """A stock module with random weights, and inputs for its twin."""
    torch.manual_seed(0)
    stock = pair.stock(3, 4, dtype=torch.float64, **layer_options(pair))
    time = pair.twin.__name__.startswith("Time")
    if pair.stock is nn.Embedding:
        return stock, [torch.tensor([[0, 2], [1, 1]] if time else [0, 2, 1])]
    x = torch.randn(2, *([5] if time else []), 3, dtype=torch.float64)
    states = {nn.LSTMCell: 2, nn.RNNCell: 1}.get(pair.stock, 0)
    return stock, [x, *torch.randn(states, 2, 4, dtype=torch.float64)]


def first(results):
    while isinstance(results, tuple):
        results = results[0]
    return results


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.twin.__name__)
def test_stock_weights_go_in_and_out_exactly(pair):
    stock, inputs = stock_of(pair)
    twin = torch_port.from_stock(stock.eval(), pair.twin)
    assert type(twin) is pair.twin and not twin.training
    packed = [inputs[0], tuple(inputs[1:])] if pair.stock is nn.LSTMCell else inputs
    # the kernel may take another way through inputs of another layout in memory: sums of D + H terms
    torch.testing.assert_close(first(twin(*inputs)), first(stock(*packed)), rtol=0, atol=1e-14)
    back = torch_port.to_stock(twin)
    assert type(back) is pair.stock and not back.training
    assert torch.equal(first(back(*packed)), first(stock(*packed)))
    for name, value in stock.state_dict().items():
        assert torch.equal(back.state_dict()[name], value), name
    reference_class = getattr(reference, pair.twin.__name__)
    layer = reference_class(*twin.reference_params())
    np.testing.assert_allclose(first(layer.forward(*(x.numpy() for x in inputs))),
                               first(twin(*inputs)).detach(), rtol=0, atol=1e-14)
    for a, b in zip(stock.parameters(), twin.parameters(), strict=False):
        assert a.data_ptr() != b.data_ptr()


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.twin.__name__)
def test_weights_that_are_loaded_leave_nothing_of_stock_ones(pair, tmp_path):
    stock, inputs = stock_of(pair)
    rng, other = np.random.default_rng(0), torch_port.from_stock(stock, pair.twin)
    params = [rng.standard_normal(p.shape) for p in other.reference_params()]
    layer = getattr(reference, pair.twin.__name__)(*params)
    expected = pair.twin.from_reference(layer)
    reference.save_params(layer, tmp_path / "weights.safetensors")
    for load in (lambda twin: twin.load_reference_params(params),
                 lambda twin: torch_port.load_params(twin, tmp_path / "weights.safetensors"),
                 lambda twin: twin.load_state_dict(expected.state_dict())):
        twin = torch_port.from_stock(stock, pair.twin)
        load(twin)
        assert all(map(np.array_equal, twin.reference_params(), params))
        assert torch.equal(first(twin(*inputs)), first(expected(*inputs)))


def test_two_stock_biases_add_to_one():
    stock = nn.LSTM(3, 4)
    *_, b = torch_port.from_stock(stock).reference_params()
    i, f, g, o = (stock.bias_ih_l0 + stock.bias_hh_l0).detach().chunk(4)
    assert np.array_equal(b, torch.cat([f, g, i, o]))


@pytest.mark.parametrize(
    ("stock", "error", "message"),
    [
        (nn.LSTM(3, 4, num_layers=2), ValueError, "num_layers=2, expected 1 for a TimeLSTM"),
        (nn.LSTM(3, 4, 2, bidirectional=True), ValueError, "num_layers=2, expected 1 for a TimeBiLSTM"),
        (nn.LSTM(3, 4, proj_size=2), ValueError, "proj_size=2, expected 0"),
        (nn.LSTM(3, 4, bias=False), ValueError, "bias=False, expected True"),
        (nn.RNN(3, 4, nonlinearity="relu"), ValueError, "nonlinearity='relu', expected 'tanh'"),
        (nn.RNN(3, 4, bidirectional=True), ValueError, "bidirectional=True, expected False"),
        (nn.Linear(3, 4, bias=False), ValueError, "bias=None, expected True"),
        (nn.Embedding(3, 4, padding_idx=0), ValueError, "padding_idx=0, expected None"),
        (nn.GRU(3, 4), TypeError, "no twin from GRU"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_stock_modules_that_are_no_twin_are_refused(stock, error, message):
    with pytest.raises(error, match=message):
        torch_port.from_stock(stock)


def test_twins_that_are_no_stock_module_are_refused():
    with pytest.raises(TypeError, match="no module of torch's own is a TimeGRU"):
        torch_port.to_stock(torch_port.TimeGRU(3, 4))
    with pytest.raises(TypeError, match="no LSTM from Linear"):
        torch_port.from_stock(nn.Linear(3, 4), torch_port.LSTM)
