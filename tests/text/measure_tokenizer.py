"""Measures that encoding takes time linear in the text, whatever the text: seconds for 1 to 8 MiB and their ratios. No test: it judges
nothing.

Usage: measure_tokenizer.py TOKENIZER_PROBE TOKENIZER_JSON...
"""
import json
import random
import subprocess
import sys

SOURCE = random.Random(1)
UNITS = {
    "one letter": "a",
    "one space": " ",
    "one digit": "7",
    "newlines": "\n",
    "one CJK character": "文",
    "one emoji": "🤖",
    "marks in the worst order": "\u0301\u0323",
    "spaces and letters": "a ",
    "random letters": "".join(SOURCE.choices("abcdefghijklmnopqrstuvwxyz", k=1 << 20)),
    "random characters": "".join(chr(SOURCE.choice([SOURCE.randrange(0x20, 0x3000), SOURCE.randrange(0x4E00, 0xA000)])) for _ in range(350_000)),
    "random bytes": SOURCE.randbytes(600_000).decode("latin-1"),
}
SIZES = [1 << 20, 2 << 20, 4 << 20, 8 << 20]


def main(program, paths):
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8")

    def ask(**request):
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    for path in paths:
        print(path, ask(load=path))
        for name, unit in UNITS.items():
            answers = [ask(repeat=unit, bytes=size) for size in SIZES]
            seconds = [answer["seconds"] for answer in answers]
            ratios = " ".join(f"{b / a:.1f}" for a, b in zip(seconds, seconds[1:]))
            print(f"  {name:26} {' '.join(f'{s:6.2f}' for s in seconds)} s   doubling {ratios}   {answers[-1]['tokens']} tokens")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
