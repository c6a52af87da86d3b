"""What `make package` makes: a program that needs nothing of the machine that it runs on, and a package that holds what it should."""

import os
import shutil
import subprocess
import tarfile

import pytest

from cli_support import tiny_model

STATIC = os.environ["TRITLLM_STATIC_BINARY"]
CPACK_CONFIG = os.environ["TRITLLM_CPACK_CONFIG"]


def output(*command, **options):
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True, **options).stdout


def test_the_program_needs_no_library():
    assert "INTERP" not in output("readelf", "--program-headers", STATIC)
    assert "NEEDED" not in output("readelf", "--dynamic", STATIC)
    undefined = [line for line in output("readelf", "--symbols", "--wide", STATIC).splitlines() if " UND " in line and "GLIBC" in line]
    assert undefined == []


def test_it_runs_where_there_is_nothing_else(tmp_path):
    if os.geteuid() != 0 or shutil.which("chroot") is None:
        pytest.skip("only root can change the root folder")
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(STATIC, root / "tritllm")
    tiny_model(root / "model")
    inside = ["chroot", root, "/tritllm"]
    assert output(*inside, "--version").startswith("tritllm ")
    environment = {**os.environ, "TRITLLM_DEVICE": "cpu"}
    output(*inside, "quantize", "--model", "/model", "--configs", "uniform-d2", "--out", "/out", "--quiet", env=environment)
    assert "sound" in output(*inside, "verify", "/out", env=environment)
    assert "tokens" in output(*inside, "bench", "--synthetic", "llama-3.2-1b", "--synthetic-depth", 1, "--vocab", 256, "--tests", "tg1",
                              "--repetitions", 1, "--quiet", env=environment)


def test_the_package_holds_what_it_should(tmp_path):
    for tool in ("cpack", "dpkg-deb"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}")
    output("cpack", "--config", CPACK_CONFIG, "-B", tmp_path)
    (deb,), (tar,) = tmp_path.glob("*.deb"), tmp_path.glob("*.tar.gz")
    expected = {"bin/tritllm", "share/man/man1/tritllm.1", "share/bash-completion/completions/tritllm", "share/zsh/site-functions/_tritllm",
                "share/fish/vendor_completions.d/tritllm.fish", "share/doc/tritllm/copyright", "share/doc/tritllm/linked/libc6-dev.copyright",
                "share/doc/tritllm/linked/fonts-katex.copyright"}
    in_tar = {name.split("/", 1)[1] for name in tarfile.open(tar).getnames() if "/" in name}
    assert {name.removeprefix("usr/") for name in in_tar} >= expected
    output("dpkg-deb", "--extract", deb, tmp_path / "deb")
    assert all((tmp_path / "deb" / "usr" / name).is_file() for name in expected)
    assert output("dpkg-deb", "--field", deb, "Depends").strip() == ""
    assert output("dpkg-deb", "--field", deb, "Package").strip() == "tritllm"
    assert output(tmp_path / "deb" / "usr" / "bin" / "tritllm", "--version").startswith("tritllm ")
    assert not [name for name in in_tar if name.endswith((".a", ".h"))]
