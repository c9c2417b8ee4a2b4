"""What a NumPy layer owes its users."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..cases.case import Data
from ..judge.finding import Finding
from ..sides.textbook import build
from ..spec.axes import axes
from ..spec.results import gradients_of
from ..spec.spec import Spec
from . import calls
from .common import (
    FLOATS,
    SIZES,
    Array,
    arrays_of,
    backward,
    floating,
    forward,
    misfits,
    ordinary,
    outputs_of,
    raised,
    standard,
    with_state,
)


def _hold(check: Callable[[calls.Calls], Iterator[Finding]], spec: Spec, **options: Any) -> None:
    """Holds a layer of ours to a promise about calls, bit for bit."""
    case, data = ordinary(spec, **options)

    def gradients(layer: Any, cotangents: list[Any]) -> dict[str, Any]:
        returned = gradients_of(layer.backward(*cotangents))
        return dict(zip((*spec.differentiable(), *layer.param_names), (*returned, *layer.grads), strict=True))

    other = arrays_of(standard(spec, seed=1, **options)).inputs
    for finding in check(calls.Calls(lambda: build(spec, case.options, arrays_of(case)), outputs_of, gradients,
                                     data.inputs, data.cotangents, other)):
        raise AssertionError(f"{finding.quantity}: {finding.diagnosis}")


def check_backward_twice(spec: Spec) -> None:
    """``backward`` may be called again, and says the same."""
    _hold(calls.check_backward_twice, spec)


def check_repeats(spec: Spec) -> None:
    """A second forward and backward overwrite what the first left behind, and know nothing of it."""
    _hold(calls.check_overwritten, spec)
    _hold(calls.check_repeats, spec)


def check_nothing_changed(spec: Spec) -> None:
    """Inputs, cotangents, parameters and earlier results stay as they are."""
    _hold(calls.check_nothing_changed, spec, **with_state(spec))


def check_same_arrays(spec: Spec) -> None:
    """Gradients are written into the arrays in ``grads``, which stay those that a model gathered."""
    _hold(calls.check_same_arrays, spec)
    case = standard(spec)
    layer = build(spec, case.options, data := arrays_of(case))
    forward(layer, data)
    backward(layer, data)
    assert len(layer.grads) == len(layer.params) == len(layer.param_names), \
        "params, grads, param_names differ in length"
    for name, grad, param in zip(layer.param_names, layer.grads, layer.params, strict=True):
        assert grad.shape == param.shape, f"the gradient of {name} has shape {grad.shape}, expected {param.shape}"
        assert grad.any(), f"the gradient of {name} was not written"


def check_dtypes(spec: Spec) -> None:
    """Results have the dtype of NumPy's promotion; a gradient that of the array it belongs to."""
    for value in (0, -1):
        case = standard(spec, **{name: values[value] for name, values in spec.attributes.items()})
        for dtype in FLOATS:
            data = arrays_of(case, dtype)
            layer = build(spec, case.options, data)
            for output in floating(forward(layer, data)):
                assert output.dtype == dtype, f"{dtype} in, {output.dtype} out"
            for gradient in backward(layer, data):
                assert gradient.dtype == dtype, f"{dtype} in, a gradient of {gradient.dtype}"
    case = standard(spec)
    narrow, wide = arrays_of(case, "float32"), arrays_of(case, "float64")
    for params, given, cotangents in ((narrow, wide, wide), (wide, narrow, wide), (narrow, narrow, wide)):
        layer = build(spec, case.options, params)
        found = {output.dtype for output in floating(forward(layer, given))}
        numbers = floating((*given.inputs.values(), *params.params.values()))
        assert found == {np.result_type(*numbers)}, f"float32 and float64 in, {found} out"
        kinds = [g.dtype for g in backward(layer, cotangents)]
        expected = [given.inputs[name].dtype for name in spec.differentiable()] + [p.dtype for p in layer.params]
        assert kinds == expected, f"gradients of {kinds}, their arrays of {expected}"


def check_bind(spec: Spec) -> None:
    """``bind`` takes other arrays of the same shapes, with zero gradients, and refuses what does not fit."""
    case = standard(spec)
    layer, others = build(spec, case.options, arrays_of(case)), list(arrays_of(standard(spec, seed=1)).params.values())
    if not others:
        return
    forward(layer, data := arrays_of(case))
    backward(layer, data)
    layer.bind(iter(others))
    assert all(a is b for a, b in zip(layer.params, others, strict=True)), "bind copies, or loses an array"
    assert not any(g.any() for g in layer.grads), "gradients are not zero after bind"
    forward(layer, data)
    backward(layer, data)
    layer.bind(layer.params)
    assert not any(g.any() for g in layer.grads), "gradients are not zero after bind to the same arrays"
    first = build(spec, case.options, arrays_of(standard(spec, seed=1)))
    assert np.array_equal(forward(layer, data)[0], forward(first, data)[0]), "another result after bind"
    for what, wrong, expected in misfits(others):
        error = raised(layer.bind, wrong)
        named = str(error).startswith(f"{spec.name}: ")
        assert isinstance(error, expected) and named, f"bind to {what} raises {error!r}"


def check_set_state(spec: Spec) -> None:
    """A state left out is zero, its gradient has its dtype, and that of a former state is forgotten."""
    if not spec.states:
        return
    case = standard(spec, stateful=True)
    kept = build(spec, case.options, data := arrays_of(case))
    h, *rest = (np.full((SIZES["N"], SIZES["H"]), 0.5, "float32") for _ in spec.states)
    kept.set_state(h)
    found = forward(kept, data)[0]
    kept.set_state(h, *(np.zeros_like(r) for r in rest))
    assert np.array_equal(forward(kept, data)[0], found), "a state left out is not zero"
    backward(kept, data)
    assert {getattr(kept, f"d{name}").dtype.name for name in spec.states} == {"float32"}, \
        "the gradient of a state has another dtype than the state"
    kept.set_state(h)
    assert all(getattr(kept, f"d{name}") is None for name in spec.states), "the gradient of a former state is kept"


def check_default_cotangent(spec: Spec) -> None:
    """Where the output is a scalar, ``backward()`` is ``backward(1)``."""
    if list(spec.outputs.values()) != [""]:
        return
    case = standard(spec)
    layer = build(spec, case.options, data := arrays_of(case))
    forward(layer, data)
    first, second = ([g.copy() for g in (layer.backward(*dout), *layer.grads) if g is not None] for dout in ((), (1,)))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)), "backward() is not backward(1)"


def check_masked(spec: Spec) -> None:
    """What is masked is zero, has no gradient, and its cotangent has no influence: NaN changes nothing of that."""
    masks = [name for name in spec.optional if spec.inputs[name].startswith("bool")]
    for mask in masks:
        for name in spec.with_cotangents():
            text = spec.outputs[name]
            if axes(text)[1] != axes(spec.inputs[mask])[1]:
                continue
            case, data = ordinary(spec, masked=True)
            data.inputs[mask][...] = np.arange(data.inputs[mask].size).reshape(data.inputs[mask].shape) % 3 > 0
            layer = build(spec, case.options, data)
            forward(layer, data)
            expected = backward(layer, data)
            masked = ~data.inputs[mask]
            data.cotangents[name][masked] = np.nan
            assert all(np.array_equal(a, b) for a, b in zip(backward(layer, data), expected, strict=True)), \
                f"a cotangent of {name} where {mask} is false has an influence"
            data.cotangents[name][...] = np.nan
            for gradient, other in zip(backward(layer, data), spec.differentiable(), strict=False):
                if axes(spec.inputs[other])[1][: masked.ndim] == axes(text)[1]:
                    assert not gradient[masked].any(), f"where {mask} is false, {other} has a gradient"
            data.inputs[spec.differentiable()[-1]][...] = np.nan
            assert not forward(layer, data)[0][masked].any(), f"where {mask} is false, {name} is not zero beside NaN"
            for other, size in zip(spec.differentiable(), (100.0, -100.0), strict=True):  # far below what is masked
                data.inputs[other][...] = size
            with np.errstate(over="raise", invalid="raise"):
                (found,) = forward(layer, data)
            expected = ~masked / (~masked).sum(axis=-1, keepdims=True)
            assert np.allclose(found, expected, rtol=2.0**-50, atol=0), f"{name} of equal scores far below 0 is {found}"


def check_quiet(spec: Spec) -> None:
    """Nothing to do is no reason for a warning, and gives finite numbers: nothing valid, all ignored, no batch."""
    edges = [("masked", name) for name, text in spec.inputs.items() if text.startswith("bool")]
    edges += [("ignored", name) for name, text in spec.inputs.items() if text.ignored] + [("empty", "")]
    for edge, name in edges:
        for extreme in (0, spec.extreme):
            case = standard(spec, **({"masked": True} if spec.optional else {}))
            case = replace(case, sizes=case.sizes | ({"N": 0} if edge == "empty" and "N" in case.sizes else {}))
            data = arrays_of(case)
            if edge == "masked":
                valid = data.inputs[name]
                valid[...] = np.arange(valid.size).reshape(valid.shape) % 2
                valid[0] = False  # beside a row with something valid
                for other in spec.differentiable():
                    if axes(spec.inputs[other])[1][: valid.ndim] == axes(spec.inputs[name])[1]:
                        data.inputs[other][~valid] *= 1 + 100 * extreme  # loud where it does not count
            if edge == "ignored":
                data.inputs[name][...] = case.options[spec.inputs[name].ignored]
            with np.errstate(all="raise", under="ignore"):
                layer = build(spec, case.options, data)
                results = (*forward(layer, data), *backward(layer, data))
            assert all(np.isfinite(r).all() for r in results), f"{edge} {name}: not finite"


def check_parameters(spec: Spec) -> None:
    """A parameter that does not fit the others is refused by name."""
    for name in spec.params:
        data = arrays_of(standard(spec))
        wrong = data.params | {name: data.params[name][None]}
        options = {option: values[0] for option, values in spec.options.items()}
        error = raised(spec.reference, *wrong.values(), **options)
        assert isinstance(error, ValueError), f"{name} with one axis more raises {error!r}, expected ValueError"
        assert re.search(rf"\b{name.rstrip('12')}\d? has shape {re.escape(str(wrong[name].shape))}", str(error)), \
            f"{name} with one axis more: {error} does not name it"


def check_generate_leaves_nothing(spec: Spec) -> None:
    """``generate`` leaves nothing to go back through."""
    if hasattr(spec.reference, "generate"):
        case = standard(spec)
        layer = build(spec, case.options, data := arrays_of(case))
        forward(layer, data)
        source = next(iter(spec.differentiable() or spec.inputs))
        layer.generate(data.inputs[source], 1, 2)
        error = raised(layer.backward, *data.cotangents.values())
        assert isinstance(error, RuntimeError) and f"{spec.name}.backward: " in str(error), \
            f"backward after generate raises {error!r}"


def check_dropped(spec: Spec) -> None:
    """What a layer drops it drops whatever the size, and nothing at a ratio of 0."""
    for mask, output in spec.drawn.items():
        option, values = next(iter(spec.options.items()))
        case = standard(spec, **{option: max(values)})
        data = arrays_of(case, "float16")
        layer, kept = build(spec, case.options, data), data.inputs[mask]
        forward(layer, data)
        largest = np.where(kept, 1, np.finfo("float16").max).astype("float16")
        data.cotangents[output][...] = largest
        gradient, *_ = backward(layer, data)
        data.inputs[spec.differentiable()[0]][...] = largest
        (dropped,) = forward(layer, data)
        assert not dropped[~kept].any() and not gradient[~kept].any(), "what is dropped is not zero where it is large"
        case = standard(spec, 0, **{option: 0.0})
        layer = build(spec, case.options, data)
        layer.rng = type("Zeros", (), {"random": staticmethod(np.zeros)})()
        rest = [a for name, a in data.inputs.items() if name != mask]
        assert layer.forward(*rest).all(), f"{option} = 0 drops what a draw of 0 falls on"


def check_backward_before_forward(spec: Spec) -> None:
    """``backward`` before any ``forward`` is a RuntimeError."""
    case, data = ordinary(spec)
    error = raised(build(spec, case.options, data).backward, *data.cotangents.values())
    assert isinstance(error, RuntimeError) and str(error).startswith(f"{spec.name}.backward: called before forward"), \
        f"backward before forward raises {error!r}"


def _parts(layer: Any) -> Iterator[tuple[str, Any]]:
    """The layers that a layer is made of, and theirs, by dotted names."""
    for name, part in vars(layer).items():
        if hasattr(part, "forward") and hasattr(part, "backward"):
            yield name, part
            yield from ((f"{name}.{inner}", p) for inner, p in _parts(part))


def _calls(layer: Any, data: Data) -> list[tuple[str, tuple[Any, ...]]]:
    """What each part of a layer is called with in a forward: (name of the part, its inputs)."""
    calls: list[tuple[str, tuple[Any, ...]]] = []

    def recorded(name: str, forward: Callable[..., Any], *inputs: Any) -> Any:
        calls.append((name, inputs))
        return forward(*inputs)

    for name, part in (parts := list(_parts(layer))):
        part.forward = partial(recorded, name, part.forward)
    forward(layer, data)
    for _, part in parts:
        del part.forward
    return calls


def check_one_forward(spec: Spec) -> None:
    """``backward`` is that of one forward, the last of the whole layer, or refused: never of a mixture.

    A part that ran by itself, a method of the layer that runs parts, a forward that failed halfway, and
    parameters that changed all leave behind what no gradient can be made of.
    """
    case = standard(spec)
    data, other = arrays_of(case), arrays_of(standard(spec, seed=1))
    layer = build(spec, case.options, data)
    forward(layer, data)
    expected = backward(layer, data)

    def bound(part: Any) -> None:
        part.bind([p.copy() for p in part.params])

    def changed(number: int) -> None:
        layer.params[number].flat[0] += 1

    def failing(part: Any) -> None:
        part.forward = lambda *inputs: 1 / 0
        assert isinstance(raised(forward, layer, other), ZeroDivisionError), "an error inside is lost"
        del part.forward

    parts = dict(_parts(layer))
    between: dict[str, Callable[[], object]] = {
        f"{name} ran": partial(parts[name].forward, *inputs) for name, inputs in _calls(layer, other)}
    between |= {f"{name} was bound": partial(bound, part) for name, part in parts.items() if part.params}
    between |= {f"{name} changed": partial(changed, number) for number, name in enumerate(layer.param_names)}
    between |= {f"{name} failed": partial(failing, part) for name, part in parts.items()}
    for method in ("score", "generate"):
        if hasattr(layer, method):
            source = next(iter(spec.differentiable() or spec.inputs))
            rest = [1, 2] if method == "generate" else list(other.inputs.values())[1:2]
            between[method] = partial(getattr(layer, method), other.inputs[source], *rest)
    for what, act in between.items():
        forward(layer, data)
        act()
        found: list[Array] = []
        error = raised(lambda: found.extend(backward(layer, data)))  # noqa: B023  # called here and now
        refused = isinstance(error, RuntimeError) and str(error).startswith(f"{spec.name}.backward: ")
        nothing_ran = what.endswith("failed") and found and all(map(np.array_equal, found, expected))
        assert refused or nothing_ran, f"{what} between forward and backward: {error!r}, expected a RuntimeError"
        layer.bind(arrays_of(case).params.values())
        forward(layer, data)
        assert all(np.array_equal(a, b) for a, b in zip(backward(layer, data), expected, strict=True)), \
            f"{what}: the gradients are others after the next forward"
    unchanged = arrays_of(case)
    for array in unchanged.params.values():
        array.flat[0] = np.nan
    unchanging = build(spec, case.options, unchanged)
    forward(unchanging, data)
    assert raised(backward, unchanging, data) is None, "a parameter that is NaN is taken for one that changed"
    forward(layer, data)
    for part in parts.values():
        if hasattr(part, "reset_state"):
            part.reset_state()
    assert all(np.array_equal(a, b) for a, b in zip(backward(layer, data), expected, strict=True)), \
        "a state that is reset between forward and backward changes the gradients"


def check_cotangent_shapes(spec: Spec) -> None:
    """A cotangent of another shape than its output is refused, by name of the layer and with both shapes."""
    case = standard(spec)
    for name in spec.with_cotangents():
        data = arrays_of(case)
        layer = build(spec, case.options, data)
        forward(layer, data)
        wrong = data.cotangents | {name: data.cotangents[name][None]}
        error = raised(layer.backward, *wrong.values())
        assert isinstance(error, ValueError) and isinstance(error, RuntimeError), \
            f"cotangent of {name} of a wrong shape raises {error!r}, expected a ValueError that is a RuntimeError"
        assert f"has shape {wrong[name].shape}" in str(error), f"{error} does not say which shape came"
        # a scalar is the business of the loss inside
        assert not spec.outputs[name] or str(error).startswith(f"{spec.name}.backward: "), f"{error} does not say where"


REFERENCE: dict[str, Callable[[Spec], None]] = {
    "backward twice": check_backward_twice,
    "repeats": check_repeats,
    "nothing changed": check_nothing_changed,
    "same arrays": check_same_arrays,
    "dtypes": check_dtypes,
    "backward before forward": check_backward_before_forward,
    "one forward": check_one_forward,
    "cotangent shapes": check_cotangent_shapes,
    "parameters": check_parameters,
    "quiet": check_quiet,
    "bind": check_bind,
    "set state": check_set_state,
    "default cotangent": check_default_cotangent,
    "masked": check_masked,
    "generate leaves nothing": check_generate_leaves_nothing,
    "dropped": check_dropped,
}
