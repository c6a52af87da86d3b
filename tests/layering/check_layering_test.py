"""Checks that check_layering.py finds a breach: small trees with one planted fault each, and one without."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECKER = pathlib.Path(__file__).with_name("check_layering.py")
LEVELS = [["core"], ["codec"], ["io", "text", "kernels"], ["backend"], ["model"], ["engine"]]


def check(files, more_rows=""):
    """Exit status and output of the checker on a tree with these files (path below src/ -> contents) and table rows."""
    with tempfile.TemporaryDirectory() as folder:
        tree = pathlib.Path(folder)
        rows = ""
        for level, modules in enumerate(LEVELS):
            for module in modules:
                (tree / "src" / module).mkdir(parents=True)
                rows += f"| {level} | `src/{module}` | something |\n"
        (tree / "ARCHITECTURE.md").write_text("| level | module | owns |\n|---|---|---|\n" + rows + more_rows, encoding="utf-8")
        for name, text in files.items():
            path = tree / "src" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        done = subprocess.run([sys.executable, "-B", str(CHECKER), folder], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout


class CheckLayering(unittest.TestCase):
    def assert_refused(self, files, message, more_rows=""):
        status, output = check(files, more_rows)
        self.assertEqual(status, 1, output)
        self.assertIn(message, output)
        self.assertEqual(len(output.splitlines()), 1, output)

    def test_downward_and_own_includes_pass(self):
        status, output = check({
            "engine/session.cpp": '#include "engine/session.h"\n#include "core/error.h"\n#include <vector>\n#include <fmt/format.h>\n',
            "backend/cuda/gemv.cu": '#include "backend/cuda/gemv.h"\n#include "kernels/table.h"\n#include "local.h"\n',
            "engine/CMakeLists.txt": "# tritllm_app uses it\ntritllm_module(engine SOURCES session.cpp LINKS tritllm_model tritllm_fmt)\n",
        })
        self.assertEqual((status, output), (0, ""))

    def test_upward_include(self):
        self.assert_refused({"codec/quantize.cpp": '#include <cmath>\n#include "io/gguf.h"\n'},
                            "src/codec/quantize.cpp:2: codec (level 1) includes io (level 2), which is above it")

    def test_upward_include_in_other_spellings(self):
        for line in ("#  include <model/config.h>", '\t#include\t"model/config.h"', '#include"model/config.h"'):
            self.assert_refused({"core/error.h": line + "\n"}, "src/core/error.h:1: core (level 0) includes model (level 4)")

    def test_include_of_a_module_on_the_same_level(self):
        self.assert_refused({"text/tokenizer.cpp": '#include "io/mapped_file.h"\n'}, "on the same level")

    def test_include_around_the_corner(self):
        self.assert_refused({"core/error.h": '#include "../model/config.h"\n'}, 'without ".."')

    def test_upward_include_in_a_subfolder_and_a_cuda_file(self):
        self.assert_refused({"backend/cuda/gemv.cu": '#include "engine/session.h"\n'}, "backend (level 3) includes engine (level 5)")

    def test_upward_link(self):
        self.assert_refused({"io/CMakeLists.txt": "tritllm_module(io\n  SOURCES a.cpp\n  LINKS tritllm_core tritllm_engine)\n"},
                            "src/io/CMakeLists.txt: io (level 2) links engine (level 5), which is above it")

    def test_link_to_a_module_on_the_same_level(self):
        self.assert_refused({"io/CMakeLists.txt": "tritllm_module(io LINKS tritllm_kernels_avx2)\n"}, "on the same level")

    def test_library_in_parts_of_a_lower_module(self):
        self.assertEqual(check({"backend/CMakeLists.txt": "tritllm_module(backend LINKS tritllm_kernels_avx2 tritllm_flags)\n"}), (0, ""))

    def test_level_without_a_module(self):
        self.assert_refused({}, "src/api, which does not exist", "| 7 | `src/api` | nothing yet |\n")

    def test_module_without_a_level(self):
        self.assert_refused({"misc/a.h": "\n"}, "src/misc: has no level")

    def test_unknown_folder_in_quotes(self):
        self.assert_refused({"core/error.h": '#include "misc/a.h"\n'}, 'no module "misc"')


if __name__ == "__main__":
    unittest.main()
