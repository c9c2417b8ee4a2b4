"""What a layer owes its users beside right numbers, as plain functions over a catalogue entry.

Each ``check_*`` takes a spec and raises ``AssertionError`` with a sentence where the promise is
broken. ``REFERENCE`` and ``PORT`` list those of either side; they serve the tests and the mutants.
"""

import numpy as np

from .case import Case, choices
from .lanes import LANES
from .programs import build, run_port, run_reference
from .spec import axes

SIZES = {"N": 2, "T": 3, "U": 4, "V": 5, "D": 6, "H": 7, "...": (2, 3)}  # all different
FLOATS = ("float16", "float32", "float64", "longdouble")


def standard(spec, seed=0, **options):
    """An ordinary case with all axis sizes different; the first choice of every option not given."""
    chosen = {name: options.get(name, (values or (0,))[0]) for name, values in choices(spec).items()}
    return Case(spec, {letter: SIZES[letter] for letter in spec.letters}, "normal", 1.0, "C", chosen, seed)


def _data(case, dtype="float64"):
    return case.data(lambda a: a.astype(dtype))


def _forward(layer, data):
    outputs = layer.forward(*data.inputs.values())
    return outputs if isinstance(outputs, tuple) else (outputs,)


def _backward(layer, data):
    gradients = layer.backward(*data.cotangents.values())
    gradients = gradients if isinstance(gradients, tuple) else () if gradients is None else (gradients,)
    return [g.copy() for g in (*gradients, *layer.grads)]


def _stateful(spec):
    return {"stateful": True} if "stateful" in spec.options else {}


def check_backward_twice(spec):
    """``backward`` may be called again, and says the same."""
    case = standard(spec)
    layer = build(spec, case.options, data := _data(case))
    _forward(layer, data)
    first, second = _backward(layer, data), _backward(layer, data)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)), "a second backward differs"


def check_repeats(spec):
    """A second forward and backward overwrite what the first left behind: other numbers, then the same again."""
    case, other = standard(spec), standard(spec, seed=1)
    data, different = _data(case), _data(other)
    layer = build(spec, case.options, data)
    outputs = [o.copy() for o in _forward(layer, data)]
    gradients = _backward(layer, data)
    _forward(layer, different)
    _backward(layer, different)
    assert all(np.array_equal(a, b) for a, b in zip(outputs, _forward(layer, data), strict=True)), \
        "forward depends on an earlier call"
    assert all(np.array_equal(a, b) for a, b in zip(gradients, _backward(layer, data), strict=True)), \
        "gradients accumulate, or depend on an earlier call"


def check_nothing_changed(spec):
    """Inputs, cotangents, parameters and earlier results stay as they are."""
    case = standard(spec, **_stateful(spec))
    layer = build(spec, case.options, data := _data(case))
    before = [(f"{group} {name}", a, a.copy()) for group in ("inputs", "cotangents", "params")
              for name, a in getattr(data, group).items()]
    before += [(f"output {i}", o, o.copy()) for i, o in enumerate(_forward(layer, data))]
    for _ in range(2):
        _backward(layer, data)
    _forward(layer, data)
    for name, array, copy in before:
        assert np.array_equal(array, copy), f"{name} changed in place"


def check_same_arrays(spec):
    """Gradients are written into the arrays in ``grads``, which stay those that a model gathered."""
    case = standard(spec)
    layer = build(spec, case.options, data := _data(case))
    gathered = list(layer.grads)
    _forward(layer, data)
    _backward(layer, data)
    assert len(gathered) == len(layer.params) == len(layer.param_names), "params, grads, param_names differ in length"
    for name, old, new, param in zip(layer.param_names, gathered, layer.grads, layer.params, strict=True):
        assert old is new, f"the array in grads for {name} was replaced"
        assert old.shape == param.shape, f"the gradient of {name} has shape {old.shape}, expected {param.shape}"
        assert old.any(), f"the gradient of {name} was not written"


def check_dtypes(spec):
    """Results have the dtype of NumPy's promotion; a gradient that of the array it belongs to."""
    for dtype in FLOATS:
        case = standard(spec)
        data = _data(case, dtype)
        layer = build(spec, case.options, data)
        for output in _forward(layer, data):
            assert output.dtype == dtype, f"{dtype} in, {output.dtype} out"
        for gradient in _backward(layer, data):
            assert gradient.dtype == dtype, f"{dtype} in, a gradient of {gradient.dtype}"
    if spec.params and spec.differentiable():
        wide, narrow = _data(case, "float64"), _data(case, "float32")
        layer = build(spec, case.options, narrow)
        for output in _forward(layer, wide):
            assert output.dtype == "float64", f"float32 parameters and float64 inputs give {output.dtype}"
        inputs, params = len(spec.differentiable()), len(layer.params)
        expected = ["float64"] * inputs + ["float32"] * params
        assert [g.dtype.name for g in _backward(layer, wide)] == expected, "a gradient has another dtype than its array"


def check_backward_before_forward(spec):
    """``backward`` before any ``forward`` is a RuntimeError."""
    case = standard(spec)
    data = _data(case)
    error = _raised(lambda: build(spec, case.options, data).backward(*data.cotangents.values()))
    assert isinstance(error, RuntimeError), f"backward before forward raises {error!r}, expected RuntimeError"


def check_cotangent_shapes(spec):
    """A cotangent of another shape than its output is refused, by name of the layer and with both shapes."""
    case = standard(spec)
    for name in spec.outputs:
        data = _data(case)
        layer = build(spec, case.options, data)
        _forward(layer, data)
        wrong = data.cotangents | {name: data.cotangents[name][None]}
        error = _raised(lambda layer=layer, wrong=wrong: layer.backward(*wrong.values()))
        assert isinstance(error, ValueError) and isinstance(error, RuntimeError), \
            f"cotangent of {name} of a wrong shape raises {error!r}, expected a ValueError that is a RuntimeError"
        assert str(wrong[name].shape) in str(error), f"{error} does not say which shape came"


def bad_inputs(spec):
    """Inputs that no side may accept: (what is wrong, name of the argument, inputs, type of the error)."""
    case = standard(spec, **({"masked": True} if spec.optional else {}))
    data = _data(case)
    known = {axis[-1] for text in spec.params.values() for axis in axes(text)[1]}
    found = []

    def add(what, name, value, error):
        found.append((what, name, data.inputs | {name: value}, error))

    for name, text in spec.inputs.items():
        array, (kind, letters) = data.inputs[name], axes(text)
        add("is a list", name, array.tolist(), TypeError)
        other = array.astype(np.int64) if kind == "float" else array.astype(np.float64)
        add("is of another kind", name, other, TypeError)
        if letters[0] == "...":
            add("has too few axes", name, np.array(1.0), ValueError)
        else:
            add("has one axis more", name, array[None], ValueError)
            add("has one axis less", name, np.asarray(array[0]), ValueError)
        for axis, letter in enumerate(letters, array.ndim - len(letters)):
            if letter == "...":
                continue
            if letter[-1] in known:
                add(f"has one {letter} more", name, array.take([*range(array.shape[axis]), 0], axis), ValueError)
            if letter != "N":
                add(f"has no {letter}", name, array.take([], axis), ValueError)
            known.add(letter[-1])
        if kind == "int":
            for value in (SIZES[spec.bounds[name]], -7):
                wrong = array.copy()
                wrong[(-1,) * array.ndim] = value
                add(f"contains {value}", name, wrong, IndexError)
    return case, data, found


def _check_bad_inputs(spec, call):
    case, data, wrong = bad_inputs(spec)
    for what, name, inputs, expected in wrong:
        error = _raised(lambda inputs=inputs: call(case, data, inputs))
        assert isinstance(error, expected), f"{name} {what}: raises {error!r}, expected {expected.__name__}"
        assert name in str(error) or "shape" in str(error), f"{name} {what}: {error} does not name it"


def check_bad_inputs(spec):
    """The reference refuses bad inputs with the type of error that the port has, and names the argument."""
    _check_bad_inputs(spec, lambda case, data, inputs: build(spec, case.options, data).forward(*inputs.values()))


def check_bad_inputs_port(spec):
    """The port refuses bad inputs with the type of error that the reference has, and names the argument."""
    import torch

    def call(case, data, inputs):
        module = spec.port_class.from_reference(build(spec, case.options, data))
        return module(*(torch.from_numpy(np.array(a)) if isinstance(a, np.ndarray) else a for a in inputs.values()))

    _check_bad_inputs(spec, call)


def check_round_trip(spec):
    """Weights go to the port and come back bit for bit, in every dtype that both have."""
    import torch

    for dtype in ("float16", "float32", "float64"):
        case = standard(spec)
        layer = build(spec, case.options, _data(case, dtype))
        module = spec.port_class.from_reference(layer)
        back = module.reference_params()
        assert len(back) == len(layer.params), f"{len(back)} parameters come back, expected {len(layer.params)}"
        for name, a, b in zip(layer.param_names, layer.params, back, strict=True):
            assert a.dtype == b.dtype and np.array_equal(a, b), f"{name} comes back changed in {dtype}"
        parameters = [p for p in module.parameters() if p.requires_grad]
        assert len(parameters) == len(layer.params), \
            f"the port trains {len(parameters)} tensors, expected {len(layer.params)}"
        assert sum(p.numel() for p in parameters) == sum(p.size for p in layer.params), "the port trains more numbers"
        assert all(p.dtype == getattr(torch, dtype) for p in parameters), f"a parameter is not {dtype}"


def check_reference_grads(spec):
    """``reference_grads`` before any backward is a RuntimeError, where there are parameters."""
    case = standard(spec)
    module = spec.port_class.from_reference(build(spec, case.options, _data(case)))
    if module.reference_params():
        error = _raised(module.reference_grads)
        assert isinstance(error, RuntimeError), f"reference_grads before backward raises {error!r}"


def check_port_repeats(spec):
    """A module that is run twice on the same numbers says the same, bit for bit."""
    case = standard(spec)
    data = _data(case)
    first, second = (run_port(case, data, LANES["cpu-float64"]) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first), "a second run differs"


def check_reference_repeats(spec):
    """A layer built twice from the same numbers says the same, bit for bit."""
    case = standard(spec)
    data = _data(case)
    first, second = (run_reference(case, data) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first), "a second run differs"


def _raised(call):
    """The exception that a call ends with; None where it ends without one."""
    try:
        call()
    except Exception as error:
        return error
    return None


REFERENCE = {
    "backward twice": check_backward_twice,
    "repeats": check_repeats,
    "nothing changed": check_nothing_changed,
    "same arrays": check_same_arrays,
    "dtypes": check_dtypes,
    "backward before forward": check_backward_before_forward,
    "cotangent shapes": check_cotangent_shapes,
    "bad inputs": check_bad_inputs,
    "rebuilt": check_reference_repeats,
}
PORT = {
    "bad inputs": check_bad_inputs_port,
    "round trip": check_round_trip,
    "reference_grads": check_reference_grads,
    "rebuilt": check_port_repeats,
}
