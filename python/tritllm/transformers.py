"""``import tritllm.transformers``, and transformers loads packed folders:

    import tritllm.transformers
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained("out/optimal-d3/packed")

The weights stay packed: each ternary matrix is held in the layout of tritllm's CPU kernels, and ``torch.ops.tritllm.linear``
multiplies with it. The operator has a fake kernel, so torch.compile traces it. ``save_pretrained`` writes the packed folder again.
Inference on the CPU only; the environment variable TRITLLM_ARITHMETIC ("int8", the default, or "f32") says how products are computed.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import types
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from . import _native
from .errors import ConflictError, InvalidInputError, UnsupportedError
from .tasks import verify

__all__ = ["TernaryLinear", "TritllmConfig", "TritllmQuantizer"]

_INDEX = "trits.safetensors.index.json"
_PARTS = ("trits", "scales", "codebook")

# The operator's arguments are tensors and numbers; a number stands for a matrix.
_matrices: weakref.WeakValueDictionary[int, _native.ProductMatrix] = weakref.WeakValueDictionary()


@torch.library.custom_op("tritllm::linear", mutates_args=(), device_types="cpu")
def _linear(x: torch.Tensor, matrix: int, rows: int) -> torch.Tensor:
    """x [..., columns] times the transpose of a matrix [rows, columns], in x's type."""
    flat = x.detach().to(torch.float32).reshape(-1, x.shape[-1]).contiguous()
    out = torch.from_numpy(_matrices[matrix].multiply(flat.numpy()))
    return out.to(x.dtype).reshape(*x.shape[:-1], rows)


@_linear.register_fake
def _(x: torch.Tensor, matrix: int, rows: int) -> torch.Tensor:
    return x.new_empty((*x.shape[:-1], rows))


class _PackedWeight(nn.Module):
    """The three tensors of a matrix under the names that they have in the folder: X.weight.trits, …"""

    def __init__(self, rows: int, columns: int, depth: int) -> None:
        super().__init__()
        lines = -(-rows * -(-columns // 16) // 5)
        self.register_buffer("trits", torch.empty((depth, lines, 16), dtype=torch.uint8))
        self.register_buffer("scales", torch.empty((lines, 3), dtype=torch.uint8))
        self.register_buffer("codebook", torch.empty((27,), dtype=torch.float32))


class TernaryLinear(nn.Module):
    """A linear layer whose weight is a ternary matrix [out_features, in_features].

    Attributes:
        weight: a module with the buffers trits, scales and codebook, as docs/format.md stores them.
        depth: trits to a weight.
    """

    def __init__(self, in_features: int, out_features: int, depth: int, bias: bool, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features, self.depth = in_features, out_features, depth
        self.weight = _PackedWeight(out_features, in_features, depth)
        self.bias = nn.Parameter(torch.empty(out_features, dtype=dtype), requires_grad=False) if bias else None
        self._product: _native.ProductMatrix | None = None
        self._key = 0

    def prepare(self, arithmetic: str) -> None:
        """Brings the loaded bytes into the kernels' layout. Needed before forward()."""
        arrays = [getattr(self.weight, part).numpy() for part in _PARTS]
        self._product = _native.ProductMatrix(*arrays, self.out_features, self.in_features, arithmetic)
        self._key = id(self._product)
        _matrices[self._key] = self._product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.ops.tritllm.linear(x, self._key, self.out_features)
        return y if self.bias is None else y + self.bias

    def dequantize(self) -> torch.Tensor:
        """The weights, float32 [out_features, in_features]."""
        arrays = [getattr(self.weight, part).numpy() for part in _PARTS]
        return torch.from_numpy(_native.decode_matrix(*arrays, self.out_features, self.in_features))

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, depth={self.depth}, bias={self.bias is not None}"


@register_quantization_config("tritllm")
class TritllmConfig(QuantizationConfigMixin):
    """The quantization_config of a packed folder, as it is."""

    def __init__(self, **fields: Any) -> None:
        self.quant_method = "tritllm"
        version = fields.get("format_version", 1)
        if version != 1:
            problem = f"expected 1, found {version!r}"
            raise UnsupportedError(f"quantization_config.format_version: {problem}", "quantization_config.format_version", problem)
        for name, value in fields.items():
            setattr(self, name, value)


def _refuse(name: str, problem: str, remedy: str) -> None:
    raise UnsupportedError(f"{name}: {problem}; {remedy}", name, problem, remedy)


@register_quantizer("tritllm")
class TritllmQuantizer(HfQuantizer):
    """Puts a TernaryLinear in the place of each linear layer whose matrix is packed."""

    requires_calibration = True  # transformers cannot make packed weights: tritllm.quantize() does

    def validate_environment(self, *args: Any, device_map: Any = None, **more: Any) -> None:
        devices = device_map.values() if isinstance(device_map, dict) else [device_map]
        for device in devices:
            if device is not None and str(device) not in ("cpu", "auto"):
                _refuse("device_map", f"expected cpu, found {device}", "tritllm.LLM runs packed folders on CUDA")

    def update_attn_implementation(self, config: Any) -> Any:
        # Called with the config before the weight files are looked for: theirs are not called model.safetensors.
        config.transformers_weights = _INDEX
        return config

    def _process_model_before_weight_loading(self, model: Any, checkpoint_files: list[str] | None = None, **more: Any) -> Any:
        if getattr(model.config, "tritllm_activation_bits", None) is not None:
            _refuse("tritllm_activation_bits", "the model multiplies activations of eight bits a token, as it was trained",
                    "tritllm.LLM does that")
        self.folder = Path(checkpoint_files[0]).parent
        problems = verify(self.folder)
        if problems:
            raise InvalidInputError(f"{problems[0].where}: {problems[0].message}", problems[0].where, problems[0].message)
        for record in json.loads((self.folder / "tritllm.json").read_text(encoding="utf-8"))["tensors"]:
            if record["fate"] == "ternary":
                self._replace(model, record)
        return model

    def _replace(self, model: Any, record: dict[str, Any]) -> None:
        name, shape = record["name"], record["shape"]
        path = name.removesuffix(".weight")
        instead = "load the FP16 folder ('tritllm dequantize' makes it)"
        try:
            module = model.get_submodule(path)
        except AttributeError:
            _refuse(name, f"{type(model).__name__} has no such layer", instead)
        if not isinstance(module, nn.Linear) or len(shape) != 2:
            _refuse(name, f"a packed {type(module).__name__} is not run here, linear layers are", instead)
        if [module.out_features, module.in_features] != shape:
            problem = f"expected {[module.out_features, module.in_features]}, found {shape}"
            raise InvalidInputError(f"{name}: {problem}", name, problem)
        parent = model.get_submodule(path.rpartition(".")[0])
        with torch.device("meta"):
            linear = TernaryLinear(module.in_features, module.out_features, record["depth"], module.bias is not None, module.weight.dtype)
        setattr(parent, path.rpartition(".")[2], linear)

    def _process_model_after_weight_loading(self, model: Any, **more: Any) -> Any:
        arithmetic = os.environ.get("TRITLLM_ARITHMETIC", "int8")
        places = _places(self.folder)
        for path, module in model.named_modules():
            if not isinstance(module, TernaryLinear):
                continue
            module.prepare(arithmetic)
            # The kernels have the weights. What remains is for saving: the file's own pages, which take no memory.
            for part in _PARTS[:2]:
                setattr(module.weight, part, _mapped(*places[f"{path}.weight.{part}"]))
        model.save_pretrained = types.MethodType(functools.partial(_save, self.folder), model)
        return model

    def is_serializable(self, *args: Any, **more: Any) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False

    @property
    def is_compileable(self) -> bool:
        return True


def _places(folder: Path) -> dict[str, tuple[Path, int, int, list[int]]]:
    """Of each stored tensor: file, offset, bytes, shape."""
    places = {}
    for file in sorted(set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values())):
        with open(folder / file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                places[name] = (folder / file, 8 + length + begin, end - begin, entry["shape"])
    return places


def _mapped(file: Path, offset: int, size: int, shape: list[int]) -> torch.Tensor:
    # Copy on write: torch wants memory that it may write to, and the file stays as it is.
    return torch.from_numpy(np.memmap(file, np.uint8, "c", offset, (size,))).reshape(shape)


_TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def _save(folder: Path, model: Any, save_directory: str | os.PathLike[str], *args: Any, push_to_hub: bool = False, **more: Any) -> None:
    """save_pretrained() of a packed model: the packed folder again, byte for byte. Weights that were changed are refused, since the
    manifest's checksums vouch for what quantising gave."""
    if push_to_hub:
        _refuse("push_to_hub", "a packed model is not pushed from here", "upload the saved folder with huggingface_hub.upload_folder")
    _require_unchanged(folder, model)
    target = Path(save_directory)
    if target.exists() and target.resolve() == folder.resolve():
        return
    taken = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if taken:
        problem = f"expected a new or empty folder, found one with {taken[0]}"
        raise ConflictError(f"{target}: {problem}", str(target), problem)
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(folder.iterdir()):
        shutil.copytree(file, target / file.name) if file.is_dir() else shutil.copyfile(file, target / file.name)


def _require_unchanged(folder: Path, model: Any) -> None:
    import safetensors

    state = model.state_dict()
    for file in sorted(set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values())):
        with safetensors.safe_open(folder / file, "pt") as stored:
            for name in stored.keys():
                if name not in state or name.rpartition(".")[2] in _PARTS[:2]:
                    continue
                if not torch.equal(stored.get_tensor(name).to(state[name].dtype), state[name]):
                    problem = "was changed after it was loaded"
                    raise ConflictError(f"{name}: {problem}", name, problem, "change the source model and quantise it again")
