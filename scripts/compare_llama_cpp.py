"""Compares the speed of tritllm with that of llama.cpp: same shapes, same machine, same minutes.

Builds llama.cpp's llama-bench, writes GGUF models of random weights in the shapes of `tritllm bench --synthetic`, measures both
programs in turn, round after round, and prints ratios within a round with their spread. Needs Linux, Python 3.11, cmake, a C++
compiler and, unless --llama-cpp names sources, the network. All files are under --work; the models are deleted at the end.
"""

import argparse
import functools
import json
import os
import pathlib
import signal
import subprocess
import sys

import comparison_table
import llama_cpp_build
import machine_state
import synthetic_gguf
from llama_cpp_build import Failure

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
SPARE_MEMORY = 1 << 30  # for caches, activations and the system


def parse_arguments():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    parser = argparse.ArgumentParser(description=__doc__, prog="compare_llama_cpp",
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="llama-3.2-1b", choices=synthetic_gguf.SHAPES, help="default: llama-3.2-1b")
    parser.add_argument("--vocab", type=positive, default=4096, help="tokens of the vocabulary (default 4096)")
    parser.add_argument("--types", default="Q4_0,TQ2_0,Q3_K,Q5_K,Q6_K,F16", help="llama.cpp's, with commas (default: %(default)s)")
    parser.add_argument("--depths", default="1,2,3,4", help="tritllm's trits per weight (default: %(default)s)")
    parser.add_argument("--tests", default="pp512,tg64", help="ppN: prefill of N tokens, tgN: decoding (default: %(default)s)")
    parser.add_argument("--rounds", type=positive, default=5, help="how often everything is measured (default 5)")
    parser.add_argument("--threads", type=positive, default=os.cpu_count(), help="of both programs (default: all processors)")
    parser.add_argument("--isa", default="avx2", choices=llama_cpp_build.ISA_OPTIONS, help="instruction set of both (default avx2)")
    parser.add_argument("--foreign", type=float, default=6.0, metavar="PERCENT",
                        help="a run during which other programs used more of the processors is rejected (default 6)")
    parser.add_argument("--wait", type=float, default=30.0, metavar="SECONDS",
                        help="before a run, for other programs to leave the processors alone (default 30)")
    parser.add_argument("--retries", type=int, default=3, help="of a rejected run (default 3)")
    parser.add_argument("--tritllm", type=pathlib.Path, default=REPOSITORY / "build/release/tritllm", help="the program")
    parser.add_argument("--llama-cpp", type=pathlib.Path, help="folder of llama.cpp's sources, instead of downloading them")
    parser.add_argument("--work", type=pathlib.Path, default=cache / "tritllm/compare", help="default: %(default)s")
    parser.add_argument("--jobs", type=positive, default=os.cpu_count(), help="compilers at a time")
    parser.add_argument("--keep-models", action="store_true", help="leave the GGUF files for the next time")
    parser.add_argument("--json", type=pathlib.Path, help="write every measurement there, the rejected ones too")
    arguments = parser.parse_args()
    arguments.types = [name for name in arguments.types.split(",") if name]
    arguments.depths = [name for name in arguments.depths.split(",") if name]
    arguments.tests = [name for name in arguments.tests.split(",") if name]
    for name, allowed in (("types", list(synthetic_gguf.TYPES)), ("depths", list("1234"))):
        wrong = [word for word in getattr(arguments, name) if word not in allowed]
        if wrong:
            parser.error(f"--{name}: {wrong[0]} is none of {', '.join(allowed)}")
    for test in arguments.tests:
        if test[:2] not in ("pp", "tg") or not test[2:].isdecimal() or int(test[2:]) == 0:
            parser.error(f"--tests: expected names like pp512 or tg64, found {test}")
    if not arguments.tests or not arguments.types + arguments.depths:
        parser.error("nothing to measure")
    return arguments


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def answer_of(command, environment=None):
    """The program's output, parsed as JSON."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    if done.returncode != 0:
        tail = "\n".join(done.stderr.splitlines()[-10:])
        raise Failure(f"{' '.join(map(str, command))} ended with status {done.returncode}:\n{tail}")
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError as error:
        raise Failure(f"{' '.join(map(str, command))} printed no JSON: {done.stdout[:200]!r}") from error


@functools.cache
def without_mmap(program):
    """tritllm reads weights into memory too, so llama.cpp must. The option's name differs between versions."""
    usage = subprocess.run([program, "--help"], capture_output=True, text=True, errors="replace", check=False).stdout
    return ["-lm", "none"] if "--load-mode" in usage else ["-mmp", "0"]


class LlamaCpp:
    """One model of llama.cpp. `flash` names the tests with flash attention."""

    def __init__(self, program, model, type_name, arguments, flash=frozenset()):
        self.name, self.flash, self.arguments = f"llama.cpp {type_name}", flash, arguments
        self.command = [program, "-m", model, "-t", str(arguments.threads), "-r", "1", "-ngl", "0", "-o", "json",
                        *without_mmap(program)]
        self.bytes = synthetic_gguf.bytes_per_token(synthetic_gguf.SHAPES[arguments.shape], type_name, arguments.vocab)

    def measure(self):
        rows = []
        for flash in (False, True):
            tests = [test for test in self.arguments.tests if (test in self.flash) == flash]
            if tests:
                rows += self.measure_tests(tests, flash)
        return rows

    def measure_tests(self, tests, flash):
        prompts, answers = (",".join(test[2:] for test in tests if test[:2] == kind) or "0" for kind in ("pp", "tg"))
        answer = answer_of([*self.command, "-p", prompts, "-n", answers, "-fa", str(int(flash))])
        return [{"test": f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}", "tokens_per_second": row["avg_ts"],
                 "bytes_per_token": self.bytes, "flash_attention": flash,
                 "build": f"{row['build_commit']} ({row['build_number']})"} for row in answer]


class Tritllm:
    """One depth of tritllm."""

    def __init__(self, depth, arguments):
        self.name = f"tritllm d={depth}"
        self.command = [arguments.tritllm, "bench", "--synthetic", arguments.shape, "--depth", depth,
                        "--vocab", str(arguments.vocab), "--tests", ",".join(arguments.tests), "--repetitions", "1",
                        "--threads", str(arguments.threads), "--format", "json", "--quiet"]
        # Options that the user has in the environment must not change what is measured.
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("TRITLLM_")}
        if arguments.isa != "native":
            self.environment["TRITLLM_ISA"] = arguments.isa

    def measure(self):
        return [{"test": row["test"], "tokens_per_second": row["tokens_per_second"],
                 "bytes_per_token": row["weight_bytes_per_token"], "device": row["device"]}
                for row in answer_of(self.command, self.environment)]


def faster_with_flash_attention(program, model, type_name, arguments):
    """The tests that flash attention makes faster, by the best of three runs each way."""
    candidates = {flash: LlamaCpp(program, model, type_name, arguments, frozenset(arguments.tests if flash else []))
                  for flash in (False, True)}
    best = {}
    for _ in range(3):
        for flash, candidate in candidates.items():
            machine_state.wait_for_quiet(arguments.foreign / 100, arguments.wait)
            for row in candidate.measure():
                key = flash, row["test"]
                best[key] = max(best.get(key, 0.0), row["tokens_per_second"])
    return frozenset(test for test in arguments.tests if best[True, test] > best[False, test])


def measure_quietly(subject, number, arguments):
    """The subject's rows. While others use the machine they are measured again; after the last try they count as rejected."""
    kept = []
    for attempt in range(arguments.retries + 1):
        machine_state.wait_for_quiet(arguments.foreign / 100, arguments.wait)
        state = machine_state.probe()
        with machine_state.ForeignUse() as foreign:
            rows = subject.measure()
        accepted = foreign.share * 100 <= arguments.foreign
        kept += [{"config": subject.name, "round": number, "attempt": attempt, "accepted": accepted, "foreign_use": foreign.share,
                  "probe": state, **row} for row in rows]
        rates = ", ".join(f"{row['test']} {row['tokens_per_second']:.1f}" for row in rows)
        print(f"round {number + 1}, {subject.name}: {rates}; others used {foreign.share:.1%}"
              f"{'' if accepted else ', rejected'}; copying {state['copy_gb']:.1f} GB/s", file=sys.stderr)
        if accepted:
            break
    return kept


def make_models(arguments, types):
    shape, folder = synthetic_gguf.SHAPES[arguments.shape], arguments.work / "models"
    folder.mkdir(exist_ok=True)
    paths = {name: folder / f"{arguments.shape}-{name}-{arguments.vocab}.gguf" for name in types}
    missing = [name for name in types if not paths[name].exists()]
    sizes = {name: synthetic_gguf.file_bytes(shape, name, arguments.vocab) for name in types}
    largest = max(types, key=sizes.get, default=None)
    if largest is not None and sizes[largest] + SPARE_MEMORY > machine_state.available_memory():
        raise Failure(f"{largest} takes {sizes[largest] / 1e9:.1f} GB of memory, "
                      f"{machine_state.available_memory() / 1e9:.1f} GB are free. Leave it out of --types, or choose a smaller --shape")
    llama_cpp_build.check_disk(folder, sum(sizes[name] for name in missing) + SPARE_MEMORY, "writing the models")
    for name in missing:
        print(f"writing {paths[name]}, {sizes[name] / 1e9:.1f} GB", file=sys.stderr)
        synthetic_gguf.write_model(paths[name], arguments.shape, name, arguments.vocab)
    return paths


def usable_types(arguments):
    shape = synthetic_gguf.SHAPES[arguments.shape]
    for name in arguments.types:
        if not synthetic_gguf.fits(shape, name):
            print(f"leaving out {name}: rows of {arguments.shape} do not divide into its blocks", file=sys.stderr)
    return [name for name in arguments.types if synthetic_gguf.fits(shape, name)]


def check_program(arguments):
    if not os.access(arguments.tritllm, os.X_OK):
        raise Failure(f"{arguments.tritllm}: no such program. Build it with `make build`, or name it with --tritllm")
    if arguments.isa == "avx2" and not {"avx2", "fma", "f16c", "bmi2"} <= machine_state.processor_flags():
        raise Failure("this processor has no AVX2. Try --isa native")


def interleaved(types, depths):
    """The order of a round: Q4_0, the base of the ratios, first; each depth right after the type that it is compared with."""
    order = [f"llama.cpp {name}" for name in types]
    for depth in depths:
        name = f"tritllm d={depth}"
        nearest = comparison_table.NEAREST[name]
        order.insert(order.index(nearest) + 1 if nearest in order else len(order), name)
    return order


def report(rows, facts):
    print(f"\n{facts['shape']}, vocabulary {facts['vocabulary']}, {facts['threads']} threads of {facts['processor']}; "
          f"instruction set {facts['isa']}. Median of {facts['rounds']} rounds (least–most); ratios of the same round.\n"
          f"llama.cpp {facts['llama_cpp']}, {facts['compiler']}, {' '.join(facts['options'])}; flash attention "
          f"{facts['flash_attention']}; weights loaded without mmap. tritllm: {facts['tritllm']}.")
    for test in facts["tests"]:
        print(f"\n{comparison_table.table(rows, test)}")
    rejected = sum(not row["accepted"] for row in rows)
    if rejected:
        print(f"\n{rejected} of {len(rows)} measurements rejected: other programs used more than "
              f"{facts['most_foreign_percent']:g} % of the processors.")


def compare(arguments):
    check_program(arguments)
    arguments.work = arguments.work.expanduser().resolve()
    arguments.work.mkdir(parents=True, exist_ok=True)
    source = llama_cpp_build.checked_sources(arguments.llama_cpp.resolve()) if arguments.llama_cpp \
        else llama_cpp_build.sources(arguments.work)
    program = llama_cpp_build.build(source, arguments.work, arguments.isa, arguments.jobs)
    types = usable_types(arguments)
    models = {}
    try:
        models = make_models(arguments, types)
        measure_all(arguments, program, types, models)
    finally:
        if not arguments.keep_models:
            for path in models.values():
                path.unlink(missing_ok=True)


def measure_all(arguments, program, types, models):
    flash = faster_with_flash_attention(program, models[types[0]], types[0], arguments) if types else frozenset()
    subjects = {subject.name: subject for subject in [
        *(LlamaCpp(program, models[name], name, arguments, flash) for name in types),
        *(Tritllm(depth, arguments) for depth in arguments.depths)]}
    rows = []
    try:
        for number in range(arguments.rounds):
            for name in interleaved(types, arguments.depths):
                rows += measure_quietly(subjects[name], number, arguments)
    finally:
        facts = {
            "shape": arguments.shape, "vocabulary": arguments.vocab, "threads": arguments.threads, "rounds": arguments.rounds,
            "tests": arguments.tests, "isa": arguments.isa, "processor": machine_state.processor_name(),
            "most_foreign_percent": arguments.foreign,
            "processor_flags": sorted(machine_state.processor_flags()),
            "llama_cpp": next((row["build"] for row in rows if "build" in row), "not measured"),
            "tritllm": next((row["device"] for row in rows if "device" in row), "not measured"),
            "compiler": llama_cpp_build.compiler(program.parent.parent), "options": llama_cpp_build.ISA_OPTIONS[arguments.isa],
            "flash_attention": f"on for {', '.join(sorted(flash))}" if flash else "off",
        }
        if arguments.json:
            arguments.json.write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n", encoding="utf-8")
        if rows:
            report(rows, facts)


def main():
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the models go, and what was measured is reported
    try:
        compare(parse_arguments())
    except (Failure, OSError) as error:
        sys.exit(f"compare_llama_cpp: {error}")
    except KeyboardInterrupt:
        sys.exit("compare_llama_cpp: interrupted")


if __name__ == "__main__":
    main()
