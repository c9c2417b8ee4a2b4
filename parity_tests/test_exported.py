"""Encoder and decoding step outside Python: torch.export's programs and ONNX in onnxruntime, held to the budget."""

import subprocess
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.export import Dim, export

import torch_port
from parity.cases.case import Case
from parity.catalogue import CATALOGUE
from parity.judge.budget import measure
from parity.judge.compare import compare, worst
from parity.judge.lanes import LANES
from parity.promises import standard
from parity.sides.textbook import build
from parity.spec.axes import axes
from parity_tests.test_citizen import WHOLE
from parity_tests.test_port import name_of, outputs_of, twin
from parity_tests.test_untouched import in_use
from parity_tests.untouched import untouched

MODELS = [CATALOGUE[name] for name in ("Seq2seq", "PeekySeq2seq", "AttentionSeq2seq")]
SIZES = [(1, 1, 2), (2, 3, 5), (3, 2, 4), (5, 29, 3), (0, 4, 2)]  # N, T, U; what was traced has N 2, T 3


# torch's own, of a module that it loads on the way
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")


@dataclass(frozen=True)
class OneModel(Case):
    """Cases of any batch size and length with the parameters of one model."""

    def _parameter(self, name, shape):
        return np.random.default_rng(list(name.encode())).standard_normal(shape)


def case_of(spec, seed, N, T, U, masked):
    case = standard(spec, seed, masked=masked)
    return OneModel(**vars(replace(case, sizes=case.sizes | {"N": N, "T": T, "U": U})))


def answered(encoder, step, case, data, forced):
    """What parity compares of a model: ids, greedily chosen, and the scores along the oracle's."""
    xs, ts, *given = data.inputs.values()
    mask = given[0] if given else np.ones(xs.shape, bool)
    found, chosen = {}, None
    for name, ids in (("ids", None), ("score", forced)):
        source, *state = encoder(xs, mask)
        last = np.full(len(xs), ts[0, 0] if len(ts) else 0)
        logits, chosen = [], []
        for u in range(ts.shape[1]):
            step_logits, *state = step(last, source, mask, *state)
            logits.append(step_logits)
            last = step_logits.argmax(axis=1) if ids is None else ids[:, u]
            chosen.append(last)
        found[name] = np.stack(chosen if ids is None else logits, axis=1)
    return found


def largest_share(encoder, step, case, lane):
    """Of the budget of each element, over ids and scores."""
    yardstick = measure(case, lane)
    kept = {"ids", "score"}
    yardstick = replace(yardstick, oracle={name: yardstick.oracle[name] for name in kept})
    found = compare(yardstick, answered(encoder, step, case, yardstick.data, yardstick.forced))
    return max(worst(share)[0] for share in found.values())


def model_of(spec, lane):
    case = case_of(spec, 0, *SIZES[0], masked=False)
    data = case.data(lane.narrow)
    return spec.port_class.from_reference(build(spec, case.options, data), dtype=getattr(torch, lane.torch_dtype))


def in_torch(program):
    module = torch.no_grad()(program.module())
    return lambda *arrays: [o.numpy() for o in module(*map(torch.tensor, arrays))]


def in_onnxruntime(path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    session = onnxruntime.InferenceSession(path)
    names = [each.name for each in session.get_inputs()]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))


@pytest.fixture(scope="module", params=[*((spec, "cpu-float32") for spec in MODELS), (MODELS[-1], "cpu-float64")],
                ids=lambda pair: f"{pair[0].name}-{pair[1]}")
def exported(request, tmp_path_factory):
    """A model's two parts as onnxruntime runs them, with the spec, the lane and the files."""
    spec, name = request.param
    lane, folder = LANES[name], tmp_path_factory.mktemp("onnx")
    model = in_use(model_of(spec, lane))
    with untouched(model):
        torch_port.save_onnx(model, folder)
    return [in_onnxruntime(folder / f"{part}.onnx") for part in ("encoder", "step")], spec, lane, folder


def test_onnxruntime_answers_as_the_model_at_every_batch_size_and_length(exported):
    parts, spec, lane, _ = exported
    for seed, sizes in enumerate(SIZES):
        for masked in (False, True):
            assert largest_share(*parts, case_of(spec, seed, *sizes, masked), lane) <= 1


def test_what_is_wrong_by_a_thousandth_or_does_not_see_the_mask_leaves_the_budget(exported):
    (encoder, step), spec, lane, _ = exported
    case = case_of(spec, 3, 5, 29, 3, True)

    def wrong(*arrays):
        logits, *state = step(*arrays)
        return [logits * (1 + 1e-3), *state]

    assert largest_share(encoder, wrong, case, lane) > 1
    assert largest_share(lambda xs, mask: encoder(xs, mask | True), step, case, lane) > 1


def test_the_files_say_what_is_open(exported):
    onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
    *_, spec, _, folder = exported
    wide = spec.name == "AttentionSeq2seq"
    H = 7
    source = ("batch", "length", H) if wide else ("batch", H)
    expected = {
        "encoder": ({"xs": ("batch", "length"), "mask": ("batch", "length")},
                    {"source": source, "h": ("batch", H), "c": ("batch", H)}),
        "step": ({"ids": ("batch",), "source": source, "mask": ("batch", "length"), "h": ("batch", H),
                  "c": ("batch", H)}, {"logits": ("batch", 5), "h_next": ("batch", H), "c_next": ("batch", H)}),
    }
    for name, sides in expected.items():
        model = onnx.load(folder / f"{name}.onnx")
        onnx.checker.check_model(model, full_check=True)
        for values, wanted in zip((model.graph.input, model.graph.output), sides, strict=True):
            found = {v.name: tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
            assert found == wanted


@pytest.mark.parametrize("spec", MODELS, ids=name_of)
def test_exported_programs_answer_as_the_model_at_every_batch_size_and_length(spec):
    lane = LANES["cpu-float32"]
    model = in_use(model_of(spec, lane))
    with untouched(model):
        programs = torch_port.export_model(model)
    parts = [in_torch(program) for program in programs]
    assert getattr(model, "attention_weights", None) is None
    for seed, sizes in enumerate(SIZES):
        for masked in (False, True):
            assert largest_share(*parts, case_of(spec, seed, *sizes, masked), lane) <= 1


@pytest.mark.parametrize("spec", WHOLE, ids=name_of)
def test_every_layer_is_exported_for_any_batch_and_length(spec):
    options = {"masked": True} if spec.optional else {}
    module, inputs, _ = twin(spec, **options)
    if spec.name == "TimeDropout":
        module.eval()
    shapes = tuple({i: Dim.DYNAMIC for i, letter in enumerate(axes(text)[1]) if letter in ("N", "T", "U")}
                   for text in spec.inputs.values())
    with torch.no_grad():
        program = export(module, tuple(inputs), dynamic_shapes=shapes)
    for N, T, U in ((1, 1, 3), (3, 2, 6)):
        case = standard(spec, 1, **options)
        sizes = {letter: size for letter, size in zip("NTU", (N, T, U), strict=True) if letter in case.sizes}
        case = replace(case, sizes=case.sizes | sizes)
        given = [torch.from_numpy(a) for a in case.data(lambda a: a).inputs.values()]
        for found, expected in zip(outputs_of(program.module(), given), outputs_of(module, given), strict=True):
            assert found.shape == expected.shape
            # the same sums in another order: fewer than 512 terms a step
            bound = 512 * 8 * 2.0**-53 * max(1.0, float(expected.detach().abs().amax()) if expected.numel() else 0.0)
            assert (found - expected).abs().to(torch.float64).max() <= bound if found.numel() else True


@pytest.mark.filterwarnings("ignore:torch.compile is ignored:UserWarning")
def test_what_strict_export_cannot_do_is_still_so():
    """A torch that can makes this fail: then the README's line goes."""
    shapes = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},)
    with pytest.raises(Exception, match="'SymInt' object has no attribute 'unsqueeze'"):
        export(torch_port.TimeGRU(2, 3), (torch.zeros(4, 5, 2),), dynamic_shapes=shapes, strict=True)
    with torch.no_grad():
        export(torch_port.TimeGRU(2, 3), (torch.zeros(4, 5, 2),), dynamic_shapes=shapes, strict=True)


def test_other_models_are_refused_and_without_onnx_so_is_the_file(tmp_path):
    for call in (torch_port.export_model, lambda model: torch_port.save_onnx(model, tmp_path / "new")):
        with pytest.raises(TypeError, match=r"model is a TimeLSTM, expected one of torch_port's Seq2seq models"):
            call(torch_port.TimeLSTM(2, 3))
    code = ("import sys; sys.modules['onnxscript'] = None\nimport torch_port\n"
            f"torch_port.save_onnx(torch_port.Seq2seq(5, 2, 3), {str(tmp_path / 'new')!r})")
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 1 and "onnxscript" in ran.stderr.splitlines()[-1]
    assert not (tmp_path / "new").exists()
