"""Gets llama.cpp's sources and builds its llama-bench in a separate folder. Measures nothing.

The sources come from the sdist of the Python package llama-cpp-python, which contains them, or from a folder. Standard library only;
pip runs in a virtual environment made for it.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

PACKAGE = "llama-cpp-python"
VERSION = "0.3.36"

# Static, so that the program can be copied; without network support and OpenSSL. GGML_OPENMP and the repacking of weights at load
# time stay on, their default.
COMMON_OPTIONS = [
    "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_SERVER=OFF", "-DLLAMA_BUILD_TOOLS=ON", "-DLLAMA_BUILD_COMMON=ON",
]
ISA_OPTIONS = {
    "avx2": ["-DGGML_NATIVE=OFF", "-DGGML_AVX=ON", "-DGGML_AVX2=ON", "-DGGML_FMA=ON", "-DGGML_F16C=ON", "-DGGML_BMI2=ON",
             "-DGGML_AVX512=OFF"],
    "native": ["-DGGML_NATIVE=ON"],
}
# Sources, objects and pip's files; 0.5 GB seen.
NEEDED_DISK = 2 << 30


class Failure(Exception):
    """What went wrong and what to do about it, for people."""


def run(command, doing, remedy):
    """The command's output. A Failure holds its last lines."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    except OSError as error:
        raise Failure(f"{doing}: cannot start {command[0]}: {error.strerror}. {remedy}") from error
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-25:])
        raise Failure(f"{doing}: {' '.join(map(str, command))} ended with status {done.returncode}:\n{tail}\n{remedy}")
    return done.stdout


def check_tools():
    missing = [name for name in ("cmake",) if shutil.which(name) is None]
    if not any(shutil.which(name) for name in ([os.environ["CXX"]] if "CXX" in os.environ else ["c++", "g++", "clang++"])):
        missing.append("a C++ compiler")
    if not any(shutil.which(name) for name in ("make", "ninja")):
        missing.append("make")
    if missing:
        raise Failure(f"missing: {', '.join(missing)}. On Debian or Ubuntu: sudo apt-get install cmake g++ make")


def check_disk(folder, needed, purpose):
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Failure(f"{folder}: {purpose} takes {needed / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free. Free some, or name "
                      "another folder with --work")


def sources(work):
    """The folder of llama.cpp in the unpacked sdist."""
    folder = work / f"{PACKAGE}-{VERSION}"
    found = folder / "vendor" / "llama.cpp"
    if not found.is_dir():
        unpack(download(work), folder)
    return checked_sources(found)


def checked_sources(folder):
    for name in ("CMakeLists.txt", "tools/llama-bench/CMakeLists.txt"):
        if not (folder / name).is_file():
            raise Failure(f"{folder}: no {name}, so this is not a llama.cpp with llama-bench. Name a clone of llama.cpp's "
                          "repository with --llama-cpp")
    return folder


def download(work):
    archives = list(work.glob(f"llama_cpp_python-{VERSION}.tar.gz"))
    if archives:
        return archives[0]
    python = work / "venv" / "bin" / "python"
    if not python.exists():
        run([sys.executable, "-m", "venv", work / "venv"], "making a virtual environment",
            "On Debian or Ubuntu: sudo apt-get install python3-venv")
    print(f"downloading the sources of {PACKAGE} {VERSION}", file=sys.stderr)
    run([python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", work, f"{PACKAGE}=={VERSION}"],
        "downloading llama.cpp",
        "Without network, name a folder of llama.cpp's sources with --llama-cpp")
    archives = list(work.glob(f"llama_cpp_python-{VERSION}.tar.gz"))
    if not archives:
        raise Failure(f"{work}: pip left no llama_cpp_python-{VERSION}.tar.gz. Name a folder of llama.cpp's sources with "
                      "--llama-cpp")
    return archives[0]


def unpack(archive, folder):
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(part, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise Failure(f"{archive}: cannot unpack: {error}. Delete it to download it again") from error
    (top,) = part.iterdir()
    shutil.rmtree(folder, ignore_errors=True)
    top.rename(folder)
    part.rmdir()
    archive.unlink()


def build(source, work, isa, jobs):
    """The program llama-bench, built where it is not there yet."""
    check_tools()
    folder = work / f"build-{isa}"
    stamp = folder / "source.txt"
    if folder.exists() and not (stamp.exists() and stamp.read_text(encoding="utf-8") == str(source)):
        shutil.rmtree(folder)  # cmake refuses a build folder of other sources
    if not folder.exists():
        check_disk(work, NEEDED_DISK, "llama.cpp")
    folder.mkdir(exist_ok=True)
    stamp.write_text(str(source), encoding="utf-8")
    print(f"building llama-bench ({isa}) in {folder}; the first time takes some minutes", file=sys.stderr)
    run(["cmake", "-S", source, "-B", folder, *COMMON_OPTIONS, *ISA_OPTIONS[isa]], "configuring llama.cpp",
        f"Delete {folder} to begin anew")
    run(["cmake", "--build", folder, "--target", "llama-bench", "-j", str(jobs)], "building llama.cpp",
        "Where the compiler was killed, there is too little memory: try --jobs 1")
    program = folder / "bin" / "llama-bench"
    if not program.is_file():
        raise Failure(f"{folder}: the build left no bin/llama-bench. Name other sources with --llama-cpp")
    return program


def compiler(folder):
    """Name and version of the C++ compiler that cmake chose."""
    for line in (pathlib.Path(folder) / "CMakeCache.txt").read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("CMAKE_CXX_COMPILER:"):
            return run([line.split("=", 1)[1], "--version"], "asking the compiler's version", "").splitlines()[0]
    return "unknown"
