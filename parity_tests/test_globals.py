"""What importing a module, or first using a name, does to the process: nothing but make it known."""

import ast
import subprocess
import sys
from pathlib import Path

import parity
import reference
import torch_port

# what any code of one process shares with all other code in it, read as text; run before and after
READ = r"""
import atexit, contextlib, decimal, gc, io, locale, logging, multiprocessing, os, random, signal, socket, sys, threading
import warnings
import numpy as np

def settings():
    found = {
        "Python's random state": random.getstate(),
        "NumPy's global random state": str(np.random.get_state()),
        "numpy.errstate": np.geterr(),
        "NumPy's print options": np.get_printoptions(),
        "the locale": locale.setlocale(locale.LC_ALL),
        "the decimal context": repr(decimal.getcontext()),
        "the environment": dict(os.environ),
        "the working directory": os.getcwd(),
        "sys.path": list(sys.path),
        "the recursion limit": sys.getrecursionlimit(),
        "the excepthook": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "sys.stdout": (sys.stdout, sys.stderr, sys.stdin, sys.displayhook),
        "the filter of warnings": list(warnings.filters),
        "warnings.showwarning": (warnings.showwarning, warnings.formatwarning),
        "the signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "the start method of processes": multiprocessing.get_start_method(allow_none=True),
        "the collector of garbage": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()),
        "the umask": (mask := os.umask(0o22), os.umask(mask))[0],
        "the default timeout of sockets": socket.getdefaulttimeout(),
        "tracing": (sys.gettrace(), sys.getprofile()),
        "the logging": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "the finders of modules": (list(sys.meta_path), list(sys.path_hooks)),
        "what is called at the end": atexit._ncallbacks(),
        "the threads": {thread.name for thread in threading.enumerate()},
        "denormal numbers": (1e-310 * 1.0, float(np.float64(2e-310) / 2), float(np.float32(1e-40) * np.float32(1))),
        "rounding": (0.1 + 0.2, 1e16 + 1.1, float(np.float32(1) / np.float32(3))),
    }
    if "torch" in sys.modules:
        import torch
        backends = torch.backends
        found |= {
            "torch's random state": torch.get_rng_state().tolist(),
            "torch's default dtype": torch.get_default_dtype(),
            "torch's default device": torch.get_default_device(),
            "torch's grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
            "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
            "torch's threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
            "torch's anomaly detection": torch.is_anomaly_enabled(),
            "torch's autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"),
                                 torch.is_autocast_cache_enabled()),
            "torch's precision": [(s.fp32_precision) for s in
                                  (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn,
                                   backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn)],
            "torch's kernels": (torch._C._get_mkldnn_enabled(), backends.cudnn.enabled, backends.cudnn.benchmark,
                                backends.cudnn.deterministic, torch.backends.nnpack.flags.__name__),
            "torch's print options": repr(vars(torch._tensor_str.PRINT_OPTS)),
            "denormal numbers of torch": float(torch.tensor([1e-310], dtype=torch.float64) * 1),
            "denormal numbers of torch in float32": float(torch.tensor([1e-40]) * 1),
            "torch's hooks of all modules": [
                len(hooks) for name, hooks in vars(torch.nn.modules.module).items()
                if name.startswith("_global_") and name.endswith("_hooks")],
            "torch's sharing": torch.multiprocessing.get_sharing_strategy(),
        }
    return found

known = settings()
def held(words):
    global known
    now = settings()
    for name, value in known.items():
        if now[name] != value and isinstance(value, dict):
            value, now[name] = (dict(sorted(some.items() - rest.items())) for some, rest in
                                ((value, now[name]), (now[name], value)))
        assert now[name] == value, f"{words} changes {name}: {value!r:.300} is now {now[name]!r:.300}"
    known = now
"""

IMPORTS = r"""
import importlib
for name in others:
    importlib.import_module(name)
known = settings()
for name in modules:
    importlib.import_module(name)
    if others:
        held(f"import {name}")
print([name for name in sys.modules if name.partition(".")[0] not in packages])
"""

USES = r"""
import torch
w = torch.ones(1, requires_grad=True)
w.grad = torch.ones(1)
torch.optim.SGD([w]).step()  # it loads torch's compiler, which sets what is torch's
torch.manual_seed(5)  # a state of the caller's
known = settings()
import reference, torch_port
from parity.catalogue import CATALOGUE
from parity.promises.common import arrays_of, standard, with_state
from parity.sides.textbook import build

def drawn(words, act):
    # modules are made with weights drawn from torch's own state, and others loaded after that: the first like the next
    found = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        made = act()
        found.append(torch.get_rng_state().tolist())
    assert found[0] == found[1], f"{words} does not leave torch's random state as the second does"
    assert found[0] != found[2], f"{words} seeds torch"
    torch.manual_seed(5)
    held(words)
    return made

for spec in CATALOGUE.values():
    port = spec.port_class
    held(f"the name {spec.name}")
    case = standard(spec)
    if spec.side != "textbook":
        p = torch.ones(3, requires_grad=True)
        p.grad = torch.ones(3)
        if spec.side == "clip":
            port([p], 1.0), spec.reference([np.ones(3)], 1.0)
        else:
            port([p]).step(), spec.reference().update([np.ones(3)], [np.ones(3)])
        held(f"the first use of {spec.name}")
        continue
    data = arrays_of(case, "float32")
    layer = build(spec, case.options, data)
    held(f"the first {spec.name} of the reference")
    found = layer.forward(*data.inputs.values())
    layer.backward(*data.cotangents.values())
    held(f"the first call of the reference's {spec.name}")
    module = drawn(f"the first {spec.name}.from_reference", lambda: port.from_reference(layer))
    out = module(*(torch.from_numpy(a.copy()) for a in data.inputs.values()))
    outs = [o for o in (out if isinstance(out, tuple) else (out,)) if o.requires_grad]
    if outs:
        torch.autograd.backward([o.sum() for o in outs])
    held(f"the first call of {spec.name}")
    repr(module), module.state_dict(), module.reference_params()
    if spec.greedy:
        source = next(iter(data.inputs.values()))
        layer.generate(source, 0, 3)
        module.generate(torch.from_numpy(source), 0, 3)
        held(f"the first generate of {spec.name}")
        with torch.random.fork_rng():
            module.sample(torch.from_numpy(source), 0, 3)
        module.sample(torch.from_numpy(source), 0, 3, generator=torch.Generator().manual_seed(0))
        held(f"the first sample of {spec.name}")
    path = os.path.join(folder, f"{spec.name}.safetensors")
    if layer.params:
        reference.save_params(layer, path), torch_port.load_params(module, path)
        torch_port.save_params(module, path), reference.load_params(layer, path)
    held(f"the files of {spec.name}")
reference.write_dates(os.path.join(folder, "dates.txt"), 50)
(x, t), _, vocabulary = reference.load_data(os.path.join(folder, "dates.txt"))
held("the first data set")
model = reference.AttentionSeq2seq(len(vocabulary.char_to_id), 2, 3, rng=np.random.default_rng(0))
reference.Trainer(model, reference.Adam(), rng=0).fit(x, t, 1, show_progress=False)
held("the first fit")
reference.eval_seq2seq(model, x, t)
held("the first evaluation")
import parity
assert parity.check("Softmax", "cpu-float32", cases=2).ok
held("the first check")
from torch_port import train
with contextlib.redirect_stdout(io.StringIO()):
    assert train.main(["--data", os.path.join(folder, "dates.txt"), "--out", os.path.join(folder, "out"), "--epochs=1",
                       "--hidden-size=2", "--wordvec-size=2", "--no-plots"]) == 0
torch.manual_seed(5)  # initial weights follow from the setting --seed, which seeds torch's own state
held("the first training")
drawn("the first answer", lambda: torch_port.load_model(os.path.join(folder, "out"))(["8/24/95"]))
"""


def run(code, **names):
    given = "\n".join(f"{name} = {value!r}" for name, value in names.items())
    done = subprocess.run([sys.executable, "-c", READ + given + code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_an_import_changes_no_setting():
    packages = {package.__name__: Path(package.__file__).parent for package in (reference, torch_port, parity)}
    modules = [".".join((name, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
               for name, folder in packages.items() for path in sorted(folder.rglob("*.py")) if path.stem != "__main__"]
    # what others' modules do when they are imported is theirs: they are there before
    others = ast.literal_eval(run(IMPORTS, others=[], packages=["__main__", *packages], modules=modules))
    run(IMPORTS, others=others, packages=[], modules=modules)


def test_the_first_use_of_a_name_changes_no_setting(tmp_path):
    run(USES, folder=str(tmp_path))
