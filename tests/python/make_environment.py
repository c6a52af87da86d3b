"""Makes the virtual environment of the Python tests: an empty one, with the wheel that `pip` makes of the build folder's contents.

The oracles' packages are not copied: a .pth file puts their folder behind the environment's own. So nothing is downloaded, and
test_wheel.py checks without that file that the wheel needs nothing but numpy.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with status {done.returncode}:\n{done.stdout}")


def main():
    parser = argparse.ArgumentParser()
    for name in ("source", "build", "environment"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    arguments = parser.parse_args()
    wheels = arguments.environment.with_name("wheels")
    shutil.rmtree(wheels, ignore_errors=True)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", wheels,
        "--config-settings", f"build-dir={wheels}/build", arguments.source,
        env=os.environ | {"TRITLLM_BUILD_FOLDER": str(arguments.build)})
    (wheel,) = wheels.glob("tritllm-*.whl")
    run(sys.executable, "-m", "venv", "--clear", arguments.environment)
    python = arguments.environment / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    (site,) = arguments.environment.glob("lib/python*/site-packages")
    (site / "oracles.pth").write_text(sysconfig.get_path("purelib") + "\n")


if __name__ == "__main__":
    main()
