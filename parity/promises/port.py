"""What a torch module owes its users, and the layer that it was made from."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np

from ..judge.lanes import LANES
from ..sides import run_port, run_reference
from ..sides.textbook import build
from ..spec.results import as_tuple
from ..spec.span import Span
from ..spec.spec import Spec
from .common import SIZES, arrays_of, forward, misfits, ordinary, raised, standard, tensors, twin
from .keeping import check_no_graph
from .large import check_large
from .sampling import check_sampling
from .transforms import check_forward_mode, check_vectorized


def check_generate_on_meta(spec: Spec) -> None:
    """``generate`` makes its ids where the model is; it, ``sample`` and ``score`` leave all modes alone."""
    import torch

    if not hasattr(spec.reference, "generate"):
        return
    case, data = ordinary(spec)
    module = spec.port_class.from_reference(build(spec, case.options, data), device="meta")
    source = torch.from_numpy(np.array(data.inputs[next(iter(spec.differentiable() or spec.inputs))]))
    assert module.generate(source.to("meta"), 1, 2).device.type == "meta", "the ids are made on another device"
    module, ids = twin(spec, case.options, data), torch.ones(len(source), 2, dtype=torch.int64)
    for training in (True, False):
        module.train(training)
        next(module.children()).train(not training)  # one part in another mode than the whole
        before = [part.training for part in module.modules()]
        for method, arguments in (("generate", (1, 2)), ("sample", (1, 2)), ("score", (ids,))):
            if hasattr(module, method):
                getattr(module, method)(source, *arguments)
                assert [part.training for part in module.modules()] == before, f"{method} changes a mode"


def check_state_along(spec: Spec) -> None:
    """A module's state has no history, follows the layer that it came from, and dtype and device of the module."""
    import torch

    if "stateful" not in spec.options:
        return
    case, data = ordinary(spec)
    layers = [build(spec, case.options | {"stateful": stateful}, data) for stateful in (True, False)]
    kept, other = (spec.port_class.from_reference(layer) for layer in layers)
    (xs,) = tensors(data.inputs)
    kept(xs)
    state = [getattr(kept, name) for name in kept.states]
    given = [torch.full_like(s, 0.5) for s in state]
    hs, last = kept(xs, state=given)
    assert all(getattr(kept, name) is s for name, s in zip(kept.states, state, strict=True)), "state= changes the kept"
    kept.set_state(*given)
    assert torch.equal(kept(xs), hs) and all(map(torch.equal, last, [getattr(kept, name) for name in kept.states])), \
        "state= is another state than one that is set"
    assert not any(s.requires_grad for s in state), "the kept state has a history"
    assert all(s.untyped_storage().nbytes() == s.nbytes for s in state), "the kept state keeps more than itself alive"
    other(xs)
    assert all(getattr(other, name) is None for name in other.states), "a state is kept that is not used"
    forward(layers[0], data)
    follower = spec.port_class.from_reference(layers[0])
    (expected,) = forward(layers[0], data)
    # T steps of sums of D + H terms of size 1, in two orders
    distance = np.abs(follower(xs).detach().numpy() - expected).max()
    assert distance <= 2.0**-53 * 64 * SIZES["T"] * (SIZES["D"] + SIZES["H"]), "the state does not come along"
    outputs = set()
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        module = spec.port_class.from_reference(layers[0], dtype=torch.float32)
        module.set_state(*(getattr(module, name).to(dtype) for name in module.states))
        with torch.autocast("cpu", torch.bfloat16):
            outputs.add(module(xs.to(torch.bfloat16)).dtype)
    assert len(outputs) == 1, f"under autocast the dtype of the state decides that of the output: {outputs}"
    narrow = spec.port_class.from_reference(layers[0], dtype=torch.bfloat16)
    assert {getattr(narrow, name).dtype for name in narrow.states} == {torch.bfloat16}, "the state has another dtype"
    moved = spec.port_class.from_reference(layers[0], device="meta")
    assert {getattr(moved, name).device.type for name in moved.states} == {"meta"}, "the state stays where it was"


def check_load(spec: Spec) -> None:
    """``load_reference_params`` refuses what does not fit, and then changes nothing."""
    case = standard(spec)
    module, others = twin(spec, case.options, arrays_of(case)), list(arrays_of(standard(spec, seed=1)).params.values())
    before = module.reference_params()
    wrong = misfits(others) if others else [("one array too many", [np.zeros(1)], ValueError)]
    for what, arrays, expected in wrong:
        error = raised(module.load_reference_params, arrays)
        assert isinstance(error, expected), f"{what} raise {error!r}, expected {expected.__name__}"
        assert str(error).startswith(f"{spec.name}.load_reference_params: "), f"{what}: {error} does not say where"
        after = module.reference_params()
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True)), f"{what} change something"


def check_from_reference(spec: Spec) -> None:
    """``from_reference`` takes options, mode, dtype and device, and refuses another kind of layer."""
    import torch

    from ..catalogue import CATALOGUE

    for value in (0, -1):
        case = standard(spec, **{name: values[value] for name, values in (spec.options | spec.attributes).items()})
        module = twin(spec, case.options, arrays_of(case))
        for name in spec.options:
            assert getattr(module, name) == case.options[name], f"{name} does not come along"
        for name in spec.attributes:
            assert module.training == case.options[name], f"{name} does not come along"
        assert spec.attributes or module.training, "the module is not in training mode"
    taken = inspect.signature(spec.port_class).parameters
    for open_ in (True, False):
        found: dict[str, Any] = {}

        def recorded(self: Any, *args: Any, found: dict[str, Any] = found, **given: Any) -> None:
            found.update(given)
            spec.port_class.__init__(self, *args, **given)

        signature = inspect.Signature([p for p in taken.values() if open_ or p.name not in spec.options])
        recorder: Any = type("Recorder", (spec.port_class,), {"__signature__": signature, "__init__": recorded})
        module = recorder.from_reference(build(spec, case.options, arrays_of(case)))
        assert all(getattr(module, name) == case.options[name] for name in spec.options), "an option is lost"
        expected = {name: case.options[name] for name in spec.options if open_}
        assert {n: v for n, v in found.items() if n in spec.options} == expected, \
            f"a constructor that takes {sorted(expected)} is given {found}"
    case = standard(spec)
    layer = build(spec, case.options, arrays_of(case, "longdouble"))
    for dtype in (torch.bfloat16, torch.float64):
        module = spec.port_class.from_reference(layer, dtype=dtype)
        assert {p.dtype for p in module.parameters()} <= {dtype}, f"dtype={dtype} is not taken"
        wide = "float32" if dtype == torch.bfloat16 else "float64"
        assert {p.dtype.name for p in module.reference_params()} <= {wide}, f"{dtype} does not come as {wide}"
    for name, child in vars(layer).items():
        inner = CATALOGUE.get(type(child).__name__)
        for option, values in (inner.options.items() if inner else ()):
            if option != "stateful":  # whether a model's parts are is its own affair
                setattr(child, option, values[-1])
                module = spec.port_class.from_reference(layer, dtype=torch.float64)
                assert getattr(getattr(module, name), option) == values[-1], f"{name}.{option} does not come along"
    if not layer.params:
        return
    moved = spec.port_class.from_reference(layer, device="meta", dtype=torch.float32)
    assert {p.device.type for p in moved.parameters()} == {"meta"}, "device= is not taken"
    if np.dtype(np.longdouble) != np.float64:
        error = raised(spec.port_class.from_reference, layer)
        assert isinstance(error, TypeError), f"longdouble without dtype= raises {error!r}, expected TypeError"
    flat = [p.ravel().astype("float64") for p in layer.params]
    for what, arrays in (("no parameters", []), ("one parameter", flat[:1]), ("flat parameters", flat)):
        if [a.shape for a in arrays] == [p.shape for p in layer.params]:
            continue
        other = type("Other", (), {"params": arrays})()
        error = raised(spec.port_class.from_reference, other)
        assert isinstance(error, ValueError) and str(error).startswith(f"{spec.name}."), f"{what} raises {error!r}"


def check_kept_port(spec: Spec) -> None:
    """What a module keeps aside is None before ``forward``, and then has no graph."""

    case, data = ordinary(spec)
    module = twin(spec, case.options, data)
    assert all(getattr(module, name) is None for name in spec.kept), "something is kept before forward"
    module(*(t.requires_grad_(t.is_floating_point()) for t in tensors(data.inputs)))
    for name in spec.kept:
        kept = getattr(module, name)
        assert not any(k.requires_grad for k in (kept if isinstance(kept, list) else [kept])), f"{name} has a graph"


def check_low_precision(spec: Spec) -> None:
    """Modules work in bfloat16 and under autocast, and results have the dtype that they should."""
    import torch

    case, kinds = standard(spec), None
    data = arrays_of(case, "float32")
    for dtype, auto in ((torch.bfloat16, False), (torch.float32, True), (torch.bfloat16, True)):
        module = twin(spec, case.options, data)
        if not auto:
            module = module.to(dtype)
        given = tensors(data.inputs)
        given = [g.to(dtype).requires_grad_() if g.is_floating_point() else g for g in given]
        with torch.autocast("cpu", torch.bfloat16, enabled=auto):
            outputs = module(*given)
        outputs = [o for o in as_tuple(outputs) if o.is_floating_point()]
        assert auto or {o.dtype for o in outputs} == {dtype}, f"{dtype} in, {outputs[0].dtype} out"
        if auto and spec.time:
            before, kinds = kinds, {o.dtype for o in outputs}
            assert before in (None, kinds), f"autocast gives {kinds} for {dtype}, {before} for another"
        torch.autograd.backward([o.float().sum() for o in outputs])
        for p in (*(g for g in given if g.requires_grad), *module.parameters()):
            assert p.grad.dtype == p.dtype and p.grad.isfinite().all(), "a gradient is not finite, or of another dtype"
    if spec.differentiable() and "" in spec.outputs.values():
        many = {"N": 60_000, "T": 1}  # so many that a float16 sum overflows where the mean does not
        sizes = {letter: many.get(letter, size) for letter, size in case.sizes.items()}
        case = replace(case, sizes=sizes)
        data = arrays_of(case, "float16")
        module = twin(spec, case.options, data)
        loss = module(*tensors(data.inputs))
        assert loss.dtype == torch.float16 and loss.isfinite(), f"the loss of many rows is {loss}"


def check_round_trip(spec: Spec) -> None:
    """Weights go to the port and come back bit for bit, in every dtype that both have."""
    import torch

    for dtype in ("float16", "float32", "float64"):
        case = standard(spec)
        layer = build(spec, case.options, arrays_of(case, dtype))
        for p in layer.params:
            p.flat[0] = -0.0
        module = spec.port_class.from_reference(layer)
        back = module.reference_params()
        assert len(back) == len(layer.params), f"{len(back)} parameters come back, expected {len(layer.params)}"
        for name, a, b in zip(layer.param_names, layer.params, back, strict=True):
            assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), f"{name} comes back changed in {dtype}"
        parameters = [p for p in module.parameters() if p.requires_grad]
        expected = len({slot.path for slot in module.all_slots().values()})  # one may hold several of the reference's
        assert len(parameters) == expected, f"the port trains {len(parameters)} tensors, expected {expected}"
        assert sum(p.numel() for p in parameters) == sum(p.size for p in layer.params), "the port trains more numbers"
        assert all(p.dtype == getattr(torch, dtype) for p in parameters), f"a parameter is not {dtype}"


def check_buffers(spec: Spec) -> None:
    """Where the numbers of a parameter also stand in a buffer, as torch's second bias does, both count."""

    case, data = ordinary(spec)
    modules = [twin(spec, case.options, data) for _ in range(2)]
    for module in modules:
        for buffer in module.buffers():
            buffer.fill_(0.5)
    modules[1].load_reference_params(modules[0].reference_params())
    assert not any(buffer.any() for buffer in modules[1].buffers()), "new parameters leave an old number in a buffer"
    inputs = tensors(data.inputs)
    first, second = (o[0] if isinstance(o, tuple) else o for o in (module(*inputs) for module in modules))
    # sums in another order, over T steps of D + H terms, or U and T of both
    size = max(1.0, float(first.detach().abs().max()))
    bound = 2.0**-53 * 64 * (SIZES["T"] + SIZES["U"]) * (SIZES["D"] + SIZES["H"]) * size
    assert (first - second).abs().max() <= bound, "what stands in a buffer is lost or counted twice"


def check_second_derivatives(spec: Spec) -> None:
    """Second derivatives are finite, also beside a row in which nothing is valid."""
    import torch

    case, data = ordinary(spec, **({"masked": True} if spec.optional else {}))
    for name in spec.optional:
        data.inputs[name][...] = np.arange(data.inputs[name].size).reshape(data.inputs[name].shape) % 2
        data.inputs[name][0] = False
    module = twin(spec, case.options, data)
    inputs = tensors(data.inputs)
    leaves = [i.requires_grad_() for i in inputs if i.is_floating_point()]
    if not leaves:
        return
    with torch.autograd.set_detect_anomaly(True):  # nor is anything on the way to them NaN
        outputs = module(*inputs)
        outputs = [o for o in as_tuple(outputs) if o.is_floating_point()]
        first = torch.autograd.grad([(o + o * o).sum() for o in outputs], leaves, create_graph=True)
        second = torch.autograd.grad([(f * f).sum() for f in first], leaves, allow_unused=True)
    assert all(s is None or s.isfinite().all() for s in second), "a second derivative is not finite"


def check_reference_grads(spec: Spec) -> None:
    """``reference_grads`` before any backward is a RuntimeError; afterwards it reads gradients with a graph too."""
    import torch

    case = standard(spec)
    module = spec.port_class.from_reference(build(spec, case.options, arrays_of(case)))
    if module.reference_params():
        error = raised(module.reference_grads)
        assert isinstance(error, RuntimeError), f"reference_grads before backward raises {error!r}"
        first = next(module.parameters())
        first.sum().backward()
        taking_part = [bool(g.any()) for g in module.reference_grads()]
        expected = [slot.of(module) is first for slot in module.all_slots().values()]
        assert taking_part == expected, "the gradient of a parameter that took no part is not zero"
        (first.grad,) = torch.autograd.grad((first * first).sum(), [first], create_graph=True)
        assert any(g.any() for g in module.reference_grads()), "a gradient that has a graph is not read"
        first.grad = None


def check_leaves(spec: Spec) -> None:
    """Weights go only into parameters that hold values: not computed ones, not those of the meta device."""
    import torch
    from torch.nn.utils import prune

    case = standard(spec)
    layer = build(spec, case.options, arrays_of(case))
    if not layer.params:
        other = type("Other", (), {"params": [np.ones((2, 2))]})()
        if not spec.port_class.sizes:
            error = raised(spec.port_class.from_reference, other, device="meta")
            assert isinstance(error, ValueError), f"parameters of another layer, for the meta device, raise {error!r}"
        return

    def refused(words: str, call: Callable[..., object], *arguments: Any) -> bool:
        error = raised(call, *arguments)
        where = f"{spec.name}.load_reference_params: "
        assert isinstance(error, RuntimeError) and words in str(error), f"{error!r}, expected a RuntimeError: {words}"
        return str(error).startswith(where)

    with torch.device("meta"):
        assert refused("is on the meta device", spec.port_class.from_reference, layer), "it does not say where"
    module = spec.port_class.from_reference(layer)
    params = [p + 1 for p in module.reference_params()]
    for slot in {slot.path: slot for slot in module.all_slots().values()}.values():
        module = spec.port_class.from_reference(layer)
        owner, _, name = slot.path.rpartition(".")
        prune.Identity.apply(module.get_submodule(owner), name)
        words = f"{slot.path} is computed from other parameters"
        assert refused(words, module.load_reference_params, params), "it does not say where"
        refused(words, module.reference_grads)
    module = spec.port_class.from_reference(layer, device="meta")
    assert refused("is on the meta device", module.load_reference_params, params), "it does not say where"


def check_own_weights(spec: Spec) -> None:
    """Weights of a time layer that do not fit each other are named, each with its own shape."""
    import torch

    if "stateful" not in spec.options:
        return
    case, data = ordinary(spec)
    module = twin(spec, case.options, data)
    _, slot, *_ = module.slots.values()
    owner, _, name = slot.path.rpartition(".")
    short = slot.of(module).detach()[:-1].clone()
    setattr(module.get_submodule(owner), name, torch.nn.Parameter(short))
    error = raised(module, *tensors(data.inputs))
    assert isinstance(error, ValueError) and f"{slot.path} has shape {tuple(short.shape)}" in str(error), f"{error!r}"


def check_recomputed(spec: Spec) -> None:
    """A stateful module refuses to be run again within a backward, unless a compiler reads it."""
    import torch
    from torch.utils.checkpoint import checkpoint

    if "stateful" not in spec.options:
        return
    case, data = ordinary(spec, stateful=True)
    for compiling in (False, True):
        module = twin(spec, case.options, data)
        (xs,) = tensors(data.inputs)
        xs.requires_grad_()
        with mock.patch.object(torch.compiler, "is_compiling", lambda compiling=compiling: compiling):
            out = checkpoint(module, xs, use_reentrant=False)
            error = raised(out.sum().backward)
        if compiling:
            assert error is None, f"a compiler is told {error!r}"
        else:
            assert isinstance(error, RuntimeError) and f"{spec.name}.forward: runs within a backward" in str(error), \
                f"a stateful layer under activation checkpointing raises {error!r}"


def check_ignored_id(spec: Spec) -> None:
    """A model of one id alone takes answers with padding in them."""
    import torch

    if not spec.greedy or not hasattr(spec.port_class, "score"):
        return
    single = spec.port_class(1, SIZES["D"], SIZES["H"])
    answers = torch.zeros(2, 3, dtype=torch.int64)
    answers[:, 1] = -1
    loss = single(torch.zeros(2, 3, dtype=torch.int64), answers)
    assert loss == 0, f"with one id the loss is {loss}"


def check_far_options(spec: Spec) -> None:
    """An option that is a size means the same to both sides far beyond its sizes in cases."""
    lane = LANES["cpu-float64"]
    for name, values in spec.options.items():
        for value in (values.low * 1e-6, values.high * 1e3) if isinstance(values, Span) and values.log else ():
            options: dict[str, Any] = {name: value}
            case, data = ordinary(spec, **options)
            expected, found = run_reference(case, data), run_port(case, data, lane)
            for quantity, array in expected.items():
                # sums over D or H in two orders
                bound = 2.0**-53 * 64 * (SIZES["D"] + SIZES["H"]) * max(1.0, float(np.abs(array).max()))
                assert np.abs(found[quantity] - array).max() <= bound, \
                    f"at {name} = {value:g} {quantity} is {found[quantity]}, the reference's {array}"


PORT: dict[str, Callable[[Spec], None]] = {
    "round trip": check_round_trip,
    "buffers": check_buffers,
    "second derivatives": check_second_derivatives,
    "reference_grads": check_reference_grads,
    "generate on meta": check_generate_on_meta,
    "state along": check_state_along,
    "load": check_load,
    "from_reference": check_from_reference,
    "kept": check_kept_port,
    "low precision": check_low_precision,
    "leaves": check_leaves,
    "own weights": check_own_weights,
    "recomputed": check_recomputed,
    "forward mode": check_forward_mode,
    "vectorized": check_vectorized,
    "sampling": check_sampling,
    "ignored id": check_ignored_id,
    "far options": check_far_options,
    "no graph": check_no_graph,
    "large": check_large,
}
