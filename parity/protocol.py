"""What a layer owes its users beside right numbers, as plain functions over a catalogue entry.

Each ``check_*`` takes a spec and raises ``AssertionError`` with a sentence where the promise is
broken. ``REFERENCE`` and ``PORT`` list those of either side; they serve the tests and the mutants.
"""

import re
from dataclasses import replace

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
    for value in (0, -1):
        case = standard(spec, **{name: values[value] for name, values in spec.attributes.items()})
        for dtype in FLOATS:
            data = _data(case, dtype)
            layer = build(spec, case.options, data)
            for output in _forward(layer, data):
                assert output.dtype == dtype, f"{dtype} in, {output.dtype} out"
            for gradient in _backward(layer, data):
                assert gradient.dtype == dtype, f"{dtype} in, a gradient of {gradient.dtype}"
    case = standard(spec)
    narrow, wide = _data(case, "float32"), _data(case, "float64")
    for params, given, cotangents in ((narrow, wide, wide), (wide, narrow, wide), (narrow, narrow, wide)):
        layer = build(spec, case.options, params)
        found = {output.dtype for output in _forward(layer, given)}
        floating = [a for a in (*given.inputs.values(), *params.params.values()) if a.dtype.kind == "f"]
        assert found == {np.result_type(*floating)}, f"float32 and float64 in, {found} out"
        kinds = [g.dtype for g in _backward(layer, cotangents)]
        expected = [given.inputs[name].dtype for name in spec.differentiable()] + [p.dtype for p in layer.params]
        assert kinds == expected, f"gradients of {kinds}, their arrays of {expected}"


def check_bind(spec):
    """``bind`` takes other arrays of the same shapes, with zero gradients, and refuses what does not fit."""
    case = standard(spec)
    layer, others = build(spec, case.options, _data(case)), list(_data(standard(spec, seed=1)).params.values())
    if not others:
        return
    _forward(layer, data := _data(case))
    _backward(layer, data)
    layer.bind(iter(others))
    assert all(a is b for a, b in zip(layer.params, others, strict=True)), "bind copies, or loses an array"
    assert not any(g.any() for g in layer.grads), "gradients are not zero after bind"
    first = build(spec, case.options, _data(standard(spec, seed=1)))
    assert np.array_equal(_forward(layer, data)[0], _forward(first, data)[0]), "another result after bind"
    last = others[-1]
    for what, wrong, expected in (("one array too few", others[:-1], ValueError),
                                  ("one array too many", [*others, last], ValueError),
                                  ("another shape", [*others[:-1], last[None]], ValueError),
                                  ("integers", [*others[:-1], last.astype(int)], TypeError),
                                  ("a list", [*others[:-1], last.tolist()], TypeError)):
        error = _raised(lambda wrong=wrong: layer.bind(wrong))
        named = str(error).startswith(f"{spec.name}: ")
        assert isinstance(error, expected) and named, f"bind to {what} raises {error!r}"


def check_state(spec):
    """A stateful layer goes on where it stopped until its state is reset; another always starts from zeros."""
    if "stateful" not in spec.options:
        return
    case = standard(spec)
    data = _data(case)
    kept, other = (build(spec, case.options | {"stateful": stateful}, data) for stateful in (True, False))
    first = _forward(kept, data)[0]
    assert not np.array_equal(_forward(kept, data)[0], first), "the state is not kept"
    kept.reset_state()
    assert np.array_equal(_forward(kept, data)[0], first), "the state is not reset"
    for _ in range(2):
        assert np.array_equal(_forward(other, data)[0], first), "a state is kept that should not be"
    if not spec.states:
        return
    h, *rest = (np.full((SIZES["N"], SIZES["H"]), 0.5, "float32") for _ in spec.states)
    kept.set_state(h)
    found = _forward(kept, data)[0]
    kept.set_state(h, *(np.zeros_like(r) for r in rest))
    assert np.array_equal(_forward(kept, data)[0], found), "a state left out is not zero"
    _backward(kept, data)
    assert {getattr(kept, f"d{name}").dtype.name for name in spec.states} == {"float32"}, \
        "the gradient of a state has another dtype than the state"
    kept.set_state(h)
    assert all(getattr(kept, f"d{name}") is None for name in spec.states), "the gradient of a former state is kept"
    error = _raised(lambda: kept.set_state(*[h] * (len(spec.states) + 1)))
    assert isinstance(error, TypeError) and "states given" in str(error), f"too many states raise {error!r}"


def check_default_cotangent(spec):
    """Where the output is a scalar, ``backward()`` is ``backward(1)``."""
    if list(spec.outputs.values()) != [""]:
        return
    case = standard(spec)
    layer = build(spec, case.options, data := _data(case))
    _forward(layer, data)
    first, second = ([g.copy() for g in (layer.backward(*dout), *layer.grads) if g is not None] for dout in ((), (1,)))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)), "backward() is not backward(1)"


def check_masked(spec):
    """What is masked is zero, has no gradient, and its cotangent has no influence: NaN changes nothing of that."""
    masks = [name for name in spec.optional if spec.inputs[name].startswith("bool")]
    for mask in masks:
        for name, text in spec.outputs.items():
            if axes(text)[1] != axes(spec.inputs[mask])[1]:
                continue
            case = standard(spec, masked=True)
            data = _data(case)
            data.inputs[mask][...] = np.arange(data.inputs[mask].size).reshape(data.inputs[mask].shape) % 3 > 0
            layer = build(spec, case.options, data)
            _forward(layer, data)
            expected = _backward(layer, data)
            masked = ~data.inputs[mask]
            data.cotangents[name][masked] = np.nan
            assert all(np.array_equal(a, b) for a, b in zip(_backward(layer, data), expected, strict=True)), \
                f"a cotangent of {name} where {mask} is false has an influence"
            data.cotangents[name][...] = np.nan
            for gradient, other in zip(_backward(layer, data), spec.differentiable(), strict=False):
                if axes(spec.inputs[other])[1][: masked.ndim] == axes(text)[1]:
                    assert not gradient[masked].any(), f"where {mask} is false, {other} has a gradient"
            data.inputs[spec.differentiable()[-1]][...] = np.nan
            assert not _forward(layer, data)[0][masked].any(), f"where {mask} is false, {name} is not zero beside NaN"


def check_quiet(spec):
    """Nothing to do is no reason for a warning, and gives finite numbers: nothing valid, all ignored, no batch."""
    edges = [("masked", name) for name, text in spec.inputs.items() if text.startswith("bool")]
    edges += [("ignored", name) for name in spec.bounds if "ignore_label" in spec.options] + [("empty", "")]
    for edge, name in edges:
        for extreme in (0, spec.extreme):
            case = standard(spec, **({"masked": True} if spec.optional else {}))
            case = replace(case, sizes=case.sizes | ({"N": 0} if edge == "empty" and "N" in case.sizes else {}))
            data = _data(case)
            if edge == "masked":
                valid = data.inputs[name]
                valid[...] = np.arange(valid.size).reshape(valid.shape) % 2
                valid[0] = False  # beside a row with something valid
                for other in spec.differentiable():
                    if axes(spec.inputs[other])[1][: valid.ndim] == axes(spec.inputs[name])[1]:
                        data.inputs[other][~valid] *= 1 + 100 * extreme  # loud where it does not count
            if edge == "ignored":
                data.inputs[name][...] = case.options["ignore_label"]
            with np.errstate(all="raise", under="ignore"):
                layer = build(spec, case.options, data)
                results = (*_forward(layer, data), *_backward(layer, data))
            assert all(np.isfinite(r).all() for r in results), f"{edge} {name}: not finite"


def _check_ignored(spec, make, call):
    for ignored in spec.options.get("ignore_label", ()):
        case = standard(spec, ignore_label=ignored)
        data = _data(case)
        logits, labels = spec.differentiable()[0], next(name for name in spec.inputs if name in spec.bounds)
        data.inputs[labels][...] = 1
        data.inputs[labels][:, 0] = ignored
        layer = make(spec, case.options, data)
        expected = call(layer, data.inputs)
        data.inputs[logits][:, 0] = [[np.nan], [np.inf]]
        found = call(layer, data.inputs)
        for one, other in zip(found, expected, strict=True):
            assert np.array_equal(one, other), f"logits of ignored labels have an influence: {one}, not {other}"
        assert not found[1][:, 0].any(), "logits of labels that are ignored have a gradient"


def check_ignored(spec):
    """Where a label is ignored, its logits have no influence, not even NaN, and no gradient."""
    _check_ignored(spec, build, lambda layer, inputs: (layer.forward(*inputs.values()), layer.backward(1.0)))


def check_parameters(spec):
    """A parameter that does not fit the others is refused by name."""
    for name in spec.params:
        data = _data(standard(spec))
        wrong = data.params | {name: data.params[name][None]}
        options = {option: values[0] for option, values in spec.options.items()}
        error = _raised(lambda wrong=wrong, options=options: spec.reference(*wrong.values(), **options))
        assert isinstance(error, ValueError), f"{name} with one axis more raises {error!r}, expected ValueError"
        assert re.search(rf"\b{name.rstrip('12')}\d? has shape {re.escape(str(wrong[name].shape))}", str(error)), \
            f"{name} with one axis more: {error} does not name it"


def _call_reference(layer, method, *arrays):
    return getattr(layer, method)(*arrays)


def _call_port(module, method, *arrays):
    import torch

    arguments = (torch.from_numpy(np.array(a)) if isinstance(a, np.ndarray) else a for a in arrays)
    result = module(*arguments) if method == "forward" else getattr(module, method)(*arguments)
    result = result[0] if isinstance(result, tuple) else result
    assert method != "generate" or not result.requires_grad, "generate leaves a graph"
    return result.detach().numpy()


def _twin(spec, options, data):
    return spec.port_class.from_reference(build(spec, options, data))


def _check_generate(spec, make, call):
    if not hasattr(spec.reference, "generate"):
        return
    names = list(spec.inputs)
    floating = spec.differentiable()
    source = floating[0] if floating else names[0]
    steps = 12
    for seed in range(4):
        case = standard(spec, seed)
        data = _data(case)
        layer, given = make(spec, case.options, data), data.inputs[source]
        ids = call(layer, "generate", given, 1, steps)
        assert ids.shape == (len(given), steps) and ids.dtype.kind == "i", f"ids of shape {ids.shape} and {ids.dtype}"
        fed = np.concatenate((np.ones_like(ids[:, :1]), ids[:, :-1]), axis=1)
        score = call(layer, "forward", fed, given) if floating else call(layer, "score", given, fed)
        assert np.array_equal(score.argmax(axis=-1), ids), "the ids are not those of the highest scores"
    assert call(layer, "generate", given, 1, 0).shape == (len(given), 0), "no ids asked for, and some given"
    letter = axes(spec.inputs[source])[1][-1]
    wrong = [("a start id out of range", (given, SIZES["V"], 1), IndexError),
             ("a negative start id", (given, -1, 1), IndexError),
             ("a negative number of ids", (given, 1, -1), ValueError),
             (f"{source} with one axis more", (given[None], 1, 1), ValueError),
             (f"{source} of another kind", (given.astype(int if floating else float), 1, 1), TypeError)]
    if floating:
        wrong += [(f"{source} with one {letter} more", (np.concatenate((given, given[..., :1]), -1), 1, 1), ValueError)]
    for what, arguments, expected in wrong:
        error = _raised(lambda arguments=arguments: call(layer, "generate", *arguments))
        assert isinstance(error, expected), f"generate from {what} raises {error!r}, expected {expected.__name__}"
        assert not floating or str(error).startswith(f"{spec.name}.generate: "), f"{what}: {error} does not say where"


def check_generate(spec):
    """``generate`` chooses what ``score`` scores highest, refuses bad input, and leaves nothing to go back through."""
    _check_generate(spec, build, _call_reference)
    if hasattr(spec.reference, "generate"):
        case = standard(spec)
        layer = build(spec, case.options, data := _data(case))
        _forward(layer, data)
        source = next(iter(spec.differentiable() or spec.inputs))
        layer.generate(data.inputs[source], 1, 2)
        error = _raised(lambda: layer.backward(*data.cotangents.values()))
        assert isinstance(error, RuntimeError) and "called before forward" in str(error), \
            f"backward after generate raises {error!r}"


def _check_labels(spec, make, call):
    case = standard(spec)
    data = _data(case)
    layer = make(spec, case.options, data)
    expected = call(layer, "forward", *data.inputs.values())
    for name, text in spec.inputs.items():
        if axes(text)[0] != "int":
            continue
        for dtype in ("int8", "int16", "int32", "uint8"):
            given = data.inputs | {name: np.maximum(data.inputs[name], 0).astype(dtype)}
            same = call(layer, "forward", *(data.inputs | {name: given[name].astype("int64")}).values())
            found = call(layer, "forward", *given.values())
            assert np.array_equal(found, same), f"{name} of {dtype} give another result"
        if spec.one_hot == name:
            upper = SIZES[spec.bounds[name]]
            labels = np.maximum(data.inputs[name], 0)
            expected = call(layer, "forward", *(data.inputs | {name: labels}).values())
            rows = np.eye(upper)[labels]
            for dtype in ("bool", "int64", "float32"):
                found = call(layer, "forward", *(data.inputs | {name: rows.astype(dtype)}).values())
                assert np.array_equal(found, expected), f"one-hot {name} of {dtype} give another result"
            short = data.inputs | {name: rows[..., :-1]}
            error = _raised(lambda short=short: call(layer, "forward", *short.values()))
            assert isinstance(error, ValueError), f"one-hot {name} with too few columns raise {error!r}"


def check_labels(spec):
    """Ids and labels of any integer dtype, and one-hot labels of any dtype, mean the same."""
    _check_labels(spec, build, _call_reference)


def _check_drawn(spec, make, call):
    for mask, output in spec.drawn.items():
        for option, values in spec.options.items():
            for value in values:
                case = standard(spec, **{option: value})
                data = _data(case)
                layer = make(spec, case.options, data)
                rest = [a for name, a in data.inputs.items() if name != mask]
                drawn = call(layer, "forward", *rest)
                kept = drawn != 0
                again = call(layer, "forward", *(data.inputs | {mask: kept}).values())
                close = np.allclose(drawn, again, rtol=1e-12, atol=0)  # a product in another order
                assert close, f"{option} = {value}: a {mask} that is drawn does something else than one that is given"
                if value == min(values):
                    assert kept.all() == (value == 0), f"{option} = {value}: {kept.mean():.0%} of {output} are kept"
                if value == max(values):
                    assert kept.mean() < 0.5, f"{option} = {value}: {kept.mean():.0%} of {output} are kept"


def check_drawn(spec):
    """What a layer draws for itself does what the same does when given."""
    _check_drawn(spec, build, _call_reference)


def check_backward_before_forward(spec):
    """``backward`` before any ``forward`` is a RuntimeError."""
    case = standard(spec)
    data = _data(case)
    error = _raised(lambda: build(spec, case.options, data).backward(*data.cotangents.values()))
    assert isinstance(error, RuntimeError) and str(error).startswith(f"{spec.name}.backward: called before forward"), \
        f"backward before forward raises {error!r}"


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
        assert f"has shape {wrong[name].shape}" in str(error), f"{error} does not say which shape came"
        # a scalar is the business of the loss inside
        assert not spec.outputs[name] or str(error).startswith(f"{spec.name}.backward: "), f"{error} does not say where"


def bad_inputs(spec):
    """Inputs that no side may accept: (what is wrong, name of the argument, inputs, type of the error)."""
    case = standard(spec, **({"masked": True} if spec.optional else {}))
    data = _data(case)
    known = {axis[-1] for text in (*spec.params.values(), spec.sizes) for axis in axes(text)[1]}
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
            if min(spec.ranges.get(letter, (1,))) > 1:
                add(f"has one {letter} alone", name, array.take([0], axis), ValueError)
            known.add(letter[-1])
        if kind == "int":
            ignored = spec.options.get("ignore_label", ())
            upper = SIZES[spec.bounds[name]]
            for value, place in ((upper, -1), (-7, -1), (upper, 0), (-1, 0), (-2, 0)):
                wrong = array.copy()
                wrong[(place,) * array.ndim] = value
                if value not in ignored:
                    add(f"contains {value}", name, wrong, IndexError)
    return case, data, found


def _check_bad_inputs(spec, call):
    case, data, wrong = bad_inputs(spec)
    for what, name, inputs, expected in wrong:
        error = _raised(lambda inputs=inputs: call(case, data, inputs))
        assert isinstance(error, expected), f"{name} {what}: raises {error!r}, expected {expected.__name__}"
        if expected is IndexError:  # the business of the embedding or the loss inside
            assert "contains index" in str(error), f"{name} {what}: {error} does not say which index"
            continue
        assert name in str(error) or "shape" in str(error), f"{name} {what}: {error} does not name it"
        inside = spec.greedy and name in spec.optional  # a model hands it to its decoder as it is
        assert inside or str(error).startswith(f"{spec.name}.forward: "), f"{name} {what}: {error} does not say where"


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


def check_generate_port(spec):
    """``generate`` chooses what ``score`` scores highest, refuses bad input, and leaves mode and graph alone."""
    import torch

    _check_generate(spec, _twin, _call_port)
    if hasattr(spec.reference, "generate"):
        case = standard(spec)
        data = _data(case)
        module = spec.port_class.from_reference(build(spec, case.options, data), device="meta")
        source = torch.from_numpy(np.array(data.inputs[next(iter(spec.differentiable() or spec.inputs))]))
        assert module.generate(source.to("meta"), 1, 2).device.type == "meta", "the ids are made on another device"
        assert module.train().generate(source.to("meta"), 1, 2) is not None and module.training, "the mode changes"


def check_labels_port(spec):
    """Ids and labels of any integer dtype, and one-hot labels of any dtype, mean the same."""
    _check_labels(spec, _twin, _call_port)


def check_ignored_port(spec):
    """Where a label is ignored, its logits have no influence, not even NaN, and no gradient."""
    import torch

    def call(module, inputs):
        logits, labels = (torch.from_numpy(np.array(a)) for a in inputs.values())
        loss = module(logits.requires_grad_(), labels)
        loss.backward()
        return loss.detach().numpy(), logits.grad.numpy()

    _check_ignored(spec, _twin, call)


def check_drawn_port(spec):
    """What a module draws for itself does what the same does when given."""
    _check_drawn(spec, _twin, _call_port)


def check_state_port(spec):
    """A stateful module goes on where it, or the layer that it came from, stopped, without the history."""
    import torch

    if "stateful" not in spec.options:
        return
    case = standard(spec)
    data = _data(case)
    layers = [build(spec, case.options | {"stateful": stateful}, data) for stateful in (True, False)]
    kept, other = (spec.port_class.from_reference(layer) for layer in layers)
    xs = torch.from_numpy(np.array(*data.inputs.values()))
    first = kept(xs)
    state = [getattr(kept, name) for name in kept.states]
    assert not any(s.requires_grad for s in state), "the kept state has a history"
    assert all(s.untyped_storage().nbytes() == s.nbytes for s in state), "the kept state keeps more than itself alive"
    assert not torch.equal(kept(xs), first), "the state is not kept"
    kept.reset_state()
    assert torch.equal(kept(xs), first), "the state is not reset"
    assert torch.equal(other(xs), first) and torch.equal(other(xs), first), "a state is kept that should not be"
    assert all(getattr(other, name) is None for name in other.states), "a state is kept that is not used"
    error = _raised(lambda: kept.set_state(*[None] * (len(kept.states) + 1)))
    assert isinstance(error, TypeError) and "states given" in str(error), f"too many states raise {error!r}"
    _forward(layers[0], data)
    follower = spec.port_class.from_reference(layers[0])
    (expected,) = _forward(layers[0], data)
    # T steps of sums of D + H terms of size 1, in two orders
    distance = np.abs(follower(xs).detach().numpy() - expected).max()
    assert distance <= 2.0**-53 * 64 * SIZES["T"] * (SIZES["D"] + SIZES["H"]), "the state does not come along"
    narrow = spec.port_class.from_reference(layers[0], dtype=torch.bfloat16)
    assert {getattr(narrow, name).dtype for name in narrow.states} == {torch.bfloat16}, "the state has another dtype"
    moved = spec.port_class.from_reference(layers[0], device="meta")
    assert {getattr(moved, name).device.type for name in moved.states} == {"meta"}, "the state stays where it was"


def check_load(spec):
    """``load_reference_params`` refuses what does not fit, and then changes nothing."""
    case = standard(spec)
    module, others = _twin(spec, case.options, _data(case)), list(_data(standard(spec, seed=1)).params.values())
    before = module.reference_params()
    last = others[-1] if others else np.zeros(1)
    wrong = [("one array too many", [*others, last], ValueError)]
    if others:
        wrong += [("one array too few", others[:-1], ValueError),
                  ("another shape", [*others[:-1], last[None]], ValueError),
                  ("integers", [*others[:-1], last.astype(int)], TypeError),
                  ("a list", [*others[:-1], last.tolist()], TypeError)]
    for what, arrays, expected in wrong:
        error = _raised(lambda arrays=arrays: module.load_reference_params(arrays))
        assert isinstance(error, expected), f"{what} raise {error!r}, expected {expected.__name__}"
        assert str(error).startswith(f"{spec.name}.load_reference_params: "), f"{what}: {error} does not say where"
        after = module.reference_params()
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)), f"{what} change something"


def check_from_reference(spec):
    """``from_reference`` takes options, mode, dtype and device, and refuses another kind of layer."""
    import torch

    for value in (0, -1):
        case = standard(spec, **{name: values[value] for name, values in (spec.options | spec.attributes).items()})
        module = _twin(spec, case.options, _data(case))
        for name in spec.options:
            assert getattr(module, name) == case.options[name], f"{name} does not come along"
        for name in spec.attributes:
            assert module.training == case.options[name], f"{name} does not come along"
        assert spec.attributes or module.training, "the module is not in training mode"
    case = standard(spec)
    layer = build(spec, case.options, _data(case, "longdouble"))
    for dtype in (torch.bfloat16, torch.float64):
        module = spec.port_class.from_reference(layer, dtype=dtype)
        assert {p.dtype for p in module.parameters()} <= {dtype}, f"dtype={dtype} is not taken"
        wide = "float32" if dtype == torch.bfloat16 else "float64"
        assert {p.dtype.name for p in module.reference_params()} <= {wide}, f"{dtype} does not come as {wide}"
    if not layer.params:
        return
    moved = spec.port_class.from_reference(layer, device="meta", dtype=torch.float32)
    assert {p.device.type for p in moved.parameters()} == {"meta"}, "device= is not taken"
    if np.dtype(np.longdouble) != np.float64:
        error = _raised(lambda: spec.port_class.from_reference(layer))
        assert isinstance(error, TypeError), f"longdouble without dtype= raises {error!r}, expected TypeError"
    flat = [p.ravel().astype("float64") for p in layer.params]
    for what, arrays in (("no parameters", []), ("one parameter", flat[:1]), ("flat parameters", flat)):
        other = type("Other", (), {"params": arrays})()
        error = _raised(lambda other=other: spec.port_class.from_reference(other))
        assert isinstance(error, ValueError) and str(error).startswith(f"{spec.name}."), f"{what} raises {error!r}"


def check_kept_port(spec):
    """What a module keeps aside is None before ``forward``, and then has no graph."""
    import torch

    case = standard(spec)
    data = _data(case)
    module = _twin(spec, case.options, data)
    assert all(getattr(module, name) is None for name in spec.kept), "something is kept before forward"
    module(*(torch.from_numpy(np.array(a)).requires_grad_(a.dtype.kind == "f") for a in data.inputs.values()))
    for name in spec.kept:
        kept = getattr(module, name)
        assert not any(k.requires_grad for k in (kept if isinstance(kept, list) else [kept])), f"{name} has a graph"


def check_low_precision(spec):
    """Modules work in bfloat16 and under autocast, and results have the dtype that they should."""
    import torch

    case, kinds = standard(spec), None
    data = _data(case, "float32")
    for dtype, auto in ((torch.bfloat16, False), (torch.float32, True), (torch.bfloat16, True)):
        module = _twin(spec, case.options, data)
        if not auto:
            module = module.to(dtype)
        given = [torch.from_numpy(np.array(a)) for a in data.inputs.values()]
        given = [g.to(dtype).requires_grad_() if g.is_floating_point() else g for g in given]
        with torch.autocast("cpu", torch.bfloat16, enabled=auto):
            outputs = module(*given)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        assert auto or {o.dtype for o in outputs} == {dtype}, f"{dtype} in, {outputs[0].dtype} out"
        if auto and spec.time:
            before, kinds = kinds, {o.dtype for o in outputs}
            assert before in (None, kinds), f"autocast gives {kinds} for {dtype}, {before} for another"
        torch.autograd.backward([o.float().sum() for o in outputs])
        for p in (*(g for g in given if g.requires_grad), *module.parameters()):
            assert p.grad.dtype == p.dtype and p.grad.isfinite().all(), "a gradient is not finite, or of another dtype"
    if spec.differentiable() and "" in spec.outputs.values():
        sizes = SIZES | {"N": 60_000, "T": 1}  # so many that a float16 sum overflows where the mean does not
        case = Case(spec, {letter: sizes[letter] for letter in spec.letters}, "normal", 1.0, "C", case.options, 0)
        data = _data(case, "float16")
        module = _twin(spec, case.options, data)
        loss = module(*(torch.from_numpy(np.array(a)) for a in data.inputs.values()))
        assert loss.dtype == torch.float16 and loss.isfinite(), f"the loss of many rows is {loss}"


def check_round_trip(spec):
    """Weights go to the port and come back bit for bit, in every dtype that both have."""
    import torch

    for dtype in ("float16", "float32", "float64"):
        case = standard(spec)
        layer = build(spec, case.options, _data(case, dtype))
        for p in layer.params:
            p.flat[0] = -0.0
        module = spec.port_class.from_reference(layer)
        back = module.reference_params()
        assert len(back) == len(layer.params), f"{len(back)} parameters come back, expected {len(layer.params)}"
        for name, a, b in zip(layer.param_names, layer.params, back, strict=True):
            assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), f"{name} comes back changed in {dtype}"
        parameters = [p for p in module.parameters() if p.requires_grad]
        assert len(parameters) == len(layer.params), \
            f"the port trains {len(parameters)} tensors, expected {len(layer.params)}"
        assert sum(p.numel() for p in parameters) == sum(p.size for p in layer.params), "the port trains more numbers"
        assert all(p.dtype == getattr(torch, dtype) for p in parameters), f"a parameter is not {dtype}"


def check_buffers(spec):
    """Where the numbers of a parameter also stand in a buffer, as torch's second bias does, both count."""
    import torch

    case = standard(spec)
    data = _data(case)
    modules = [_twin(spec, case.options, data) for _ in range(2)]
    for module in modules:
        for buffer in module.buffers():
            buffer.fill_(0.5)
    modules[1].load_reference_params(modules[0].reference_params())
    assert not any(buffer.any() for buffer in modules[1].buffers()), "new parameters leave an old number in a buffer"
    inputs = [torch.from_numpy(np.array(a)) for a in data.inputs.values()]
    first, second = (o[0] if isinstance(o, tuple) else o for o in (module(*inputs) for module in modules))
    # sums in another order, over T steps of D + H terms, or U and T of both
    size = max(1.0, float(first.detach().abs().max()))
    bound = 2.0**-53 * 64 * (SIZES["T"] + SIZES["U"]) * (SIZES["D"] + SIZES["H"]) * size
    assert (first - second).abs().max() <= bound, "what stands in a buffer is lost or counted twice"


def check_second_derivatives(spec):
    """Second derivatives are finite, also beside a row in which nothing is valid."""
    import torch

    case = standard(spec, **({"masked": True} if spec.optional else {}))
    data = _data(case)
    for name in spec.optional:
        data.inputs[name][...] = np.arange(data.inputs[name].size).reshape(data.inputs[name].shape) % 2
        data.inputs[name][0] = False
    module = _twin(spec, case.options, data)
    inputs = [torch.from_numpy(np.array(a)) for a in data.inputs.values()]
    leaves = [i.requires_grad_() for i in inputs if i.is_floating_point()]
    if not leaves or isinstance(module(*inputs), tuple):
        return
    with torch.autograd.set_detect_anomaly(True):  # nor is anything on the way to them NaN
        output = module(*inputs)
        first = torch.autograd.grad(output.sum() + (output * output).sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum((f * f).sum() for f in first), leaves, allow_unused=True)
    assert all(s is None or s.isfinite().all() for s in second), "a second derivative is not finite"


def check_reference_grads(spec):
    """``reference_grads`` before any backward is a RuntimeError, where there are parameters."""
    case = standard(spec)
    module = spec.port_class.from_reference(build(spec, case.options, _data(case)))
    if module.reference_params():
        error = _raised(module.reference_grads)
        assert isinstance(error, RuntimeError), f"reference_grads before backward raises {error!r}"
        first = next(module.parameters())
        first.sum().backward()
        taking_part = [bool(g.any()) for g in module.reference_grads()]
        assert sum(taking_part) == 1, "the gradient of a parameter that took no part is not zero"


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


def check_optimizer(spec):
    """An optimizer leaves parameters without gradient alone, takes closures, and refuses what cannot be."""
    import torch

    def parameter(*gradient):
        p = torch.zeros(2, requires_grad=True)
        p.grad = torch.tensor(gradient) if gradient else None
        return p

    first, second, bare = parameter(1.0, -1.0), parameter(1.0, -1.0), parameter()
    spec.port_class([first, bare]).step()
    assert first.any() and not bare.any(), "a parameter without gradient moves, or one with a gradient does not"
    assert spec.port_class([bare]).step() is None, "a step without any gradient gives something"

    def closure():
        assert torch.is_grad_enabled(), "the closure runs without gradients"
        second.grad = torch.tensor([1.0, -1.0])
        return 7.0

    assert spec.port_class([second]).step(closure) == 7.0, "the loss of the closure is lost"
    assert torch.equal(first, second), "a step with a closure is another one"
    for name in spec.options:
        error = _raised(lambda name=name: spec.port_class([parameter()], **{name: -0.5}))
        assert isinstance(error, ValueError), f"{name}=-0.5 raises {error!r}, expected ValueError"
        assert spec.port_class([parameter()], **{name: 0.0}), f"{name}=0 is refused"
        if name != "lr":
            error = _raised(lambda name=name: spec.port_class([parameter()], **{name: 1.0}))
            assert isinstance(error, ValueError), f"{name}=1 raises {error!r}, expected ValueError"
    defaults, given = (spec.port_class([parameter()], **chosen).defaults for chosen in
                       ({}, {name: getattr(spec.reference(), name) for name in spec.options}))
    assert defaults == given, f"defaults {defaults}, those of the reference {given}"


def _near_the_norm(clip, make, read):
    """Clipping at norms around the limit: what is below it stays as it is, bit for bit."""
    for norm, limit, expected in ((5.0, 5.01, [3.0, 4.0]), (5.0, 9.0, [3.0, 4.0]), (5.0, 4.0, None)):
        gradient = make([3.0, 4.0])
        found = float(clip(gradient, limit))
        assert abs(found - norm) <= 2.0**-50, f"the norm of 3, 4 is {found}"
        after = read(gradient)
        if expected:
            assert after == expected, f"norm {norm}, limit {limit}: clipped to {after}"
        else:
            assert abs(after[0] - 3.0 * limit / (norm + 1e-6)) <= 2.0**-50, f"norm {norm}, limit {limit}: {after}"


def check_clip(spec):
    """What is below the limit stays as it is."""
    _near_the_norm(lambda g, limit: spec.reference([g], limit), np.array, np.ndarray.tolist)


def check_clip_port(spec):
    """What is below the limit stays as it is; tensors without gradient do no harm; NaN clips nothing, inf all."""
    import torch

    def parameter(values):
        p = torch.zeros(len(values), dtype=torch.float64, requires_grad=True)
        p.grad = torch.tensor(values, dtype=torch.float64)
        return p

    _near_the_norm(spec.port_class, parameter, lambda p: p.grad.tolist())
    _near_the_norm(lambda p, limit: spec.port_class(iter([p, torch.zeros(3, requires_grad=True)]), limit), parameter,
                   lambda p: p.grad.tolist())
    for value, expected in ((torch.nan, 3.0), (torch.inf, 0.0)):
        first, second = parameter([3.0]), parameter([value])
        spec.port_class([first, second], 1.0)
        assert first.grad.item() == expected, f"beside a gradient of {value}, 3 becomes {first.grad.item()}"


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
    "parameters": check_parameters,
    "quiet": check_quiet,
    "bind": check_bind,
    "state": check_state,
    "default cotangent": check_default_cotangent,
    "masked": check_masked,
    "ignored": check_ignored,
    "generate": check_generate,
    "labels": check_labels,
    "drawn": check_drawn,
}
PORT = {
    "bad inputs": check_bad_inputs_port,
    "round trip": check_round_trip,
    "buffers": check_buffers,
    "second derivatives": check_second_derivatives,
    "reference_grads": check_reference_grads,
    "rebuilt": check_port_repeats,
    "generate": check_generate_port,
    "labels": check_labels_port,
    "ignored": check_ignored_port,
    "drawn": check_drawn_port,
    "state": check_state_port,
    "load": check_load,
    "from_reference": check_from_reference,
    "kept": check_kept_port,
    "low precision": check_low_precision,
}
# by program of the spec, then by side
CHECKS = {
    "layer": {"reference": REFERENCE, "port": PORT},
    "optimizer": {"reference": {}, "port": {"torch optimizer": check_optimizer}},
    "clip": {"reference": {"clipping": check_clip}, "port": {"clipping": check_clip_port}},
}
