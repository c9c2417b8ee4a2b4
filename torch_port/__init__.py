"""The attention seq2seq model of "Deep Learning from Scratch 2" as ``torch.nn.Module``s.

``__all__`` lists the twins: exactly the names that ``reference`` has too. All names stand in ``_all`` and are loaded,
torch with them, when the first is asked for: the commands here must answer, and can be stopped, before torch is there.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._all import *  # noqa: F403
    from ._all import TrainedModel as TrainedModel
    from ._all import __all__ as __all__
    from ._all import export_model as export_model
    from ._all import from_stock as from_stock
    from ._all import index_checks as index_checks
    from ._all import load_model as load_model
    from ._all import load_params as load_params
    from ._all import save_onnx as save_onnx
    from ._all import save_params as save_params
    from ._all import to_stock as to_stock


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    everything = importlib.import_module(f"{__name__}._all")
    names = {key: value for key, value in vars(everything).items() if not key.startswith("__") or key == "__all__"}
    globals().update(names | globals())  # what was replaced here stays so
    try:
        return globals()[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None


def __dir__() -> list[str]:
    __getattr__("__all__")
    return sorted(globals())
