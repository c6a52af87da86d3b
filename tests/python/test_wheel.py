"""The wheel: what it installs, what it needs, and that it works without anything else."""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy
import tritllm

ENVIRONMENT = Path(sys.prefix)
BIN = ENVIRONMENT / "bin"
VERSION = re.search(r"project\(tritllm VERSION ([0-9.]+)", (Path(os.environ["TRITLLM_SOURCE_DIR"]) / "CMakeLists.txt").read_text())[1]


def test_the_package_under_test_is_the_wheels():
    assert Path(tritllm.__file__).is_relative_to(ENVIRONMENT)
    assert tritllm.__version__ == VERSION == importlib.metadata.version("tritllm")


def test_it_needs_numpy_alone():
    needed = [line for line in importlib.metadata.requires("tritllm") if "extra ==" not in line]
    assert len(needed) == 1 and needed[0].startswith("numpy")
    # -I -S: without site, so without oracles.pth; numpy is the only other package in reach.
    package, other = Path(tritllm.__file__).parents[1], Path(numpy.__file__).parents[1]
    code = f"""
import sys, types
sys.path.append({str(package)!r})
import importlib.util
spec = importlib.util.spec_from_file_location("numpy", {numpy.__file__!r}, submodule_search_locations=[{str(Path(numpy.__file__).parent)!r}])
sys.modules["numpy"] = numpy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(numpy)
import tritllm
weights = numpy.linspace(-1, 1, 64, dtype=numpy.float32).reshape(2, 32)
print(tritllm.TernaryMatrix.quantize(weights, "uniform-d4").dequantize().shape)
assert not any(name.split(".")[0] in ("torch", "transformers") for name in sys.modules)
"""
    done = subprocess.run([BIN / "python", "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "(2, 32)\n"), done.stderr
    assert other != package


def test_the_command():
    done = subprocess.run([BIN / "tritllm", "--version"], capture_output=True, text=True, check=True)
    assert VERSION in done.stdout
    done = subprocess.run([BIN / "tritllm", "inspect", "/nonexistent"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.startswith("error: ")


def test_types():
    files = {path.name for path in Path(tritllm.__file__).parent.iterdir()}
    assert {"py.typed", "_native.pyi", "errors.py"} <= files
    stubs = (Path(tritllm.__file__).parent / "_native.pyi").read_text()
    assert "class Generator" in stubs and "def quantize(" in stubs
    compile(stubs, "_native.pyi", "exec")


def test_everything_public_is_documented():
    for name in tritllm.__all__:
        if name == "__version__":
            continue
        thing = getattr(tritllm, name)
        assert thing.__doc__ and not thing.__doc__.startswith(f"{name}("), name
        for member, value in vars(thing).items() if isinstance(thing, type) else ():
            if not member.startswith("_") and (callable(value) or isinstance(value, (property, staticmethod))):
                assert value.__doc__, f"{name}.{member}"
