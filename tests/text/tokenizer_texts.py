"""Texts that a tokenizer meets, and worse ones: a reproducible stream of them, as long as wanted."""
import argparse
import inspect
import json
import random
import textwrap
import unicodedata

from tokenizers import normalizers

SOURCES = [inspect.getsource(module) for module in (argparse, textwrap, json.decoder, random)]
SENTENCES = [
    "The quick brown fox jumps over the lazy dog; it's 12:45 and they'll've gone. WE'RE DON'T I'M he'S \u2019s \u02bcs '\u017f",
    "In 1984, 3.14159 of 1,234,567 things cost $5.00 (20%) — “quoted”… naïve café, Ærøskøbing, straße, ﬁn ½ ² Ⅷ ①",
    "def f(x: int) -> str:\n\treturn f\"{x:>10}\"  # comment\r\n\r\n    if x != 3 and not y:\n        pass\n\n\n",
    "日本語のテキストです。漢字とカタカナ、そして１２３の数字。中文没有空格，但有标点！한국어 문장도 있습니다.",
    "Быстрая лиса. Γρήγορη αλεπού. עברית ועוד. العربية ١٢٣ والنص. हिन्दी में १२३ पाठ। ภาษาไทยไม่มีช่องว่าง ๑๒๓",
    "🙂👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷🇩🇪 👍🏽 ❤️ ☺ ©®™ → ∑∫√ ▁▁mark ĠnotaĠspace <0x41> </s",
    "e\u0301 cafe\u0301 A\u030a \u1e69 s\u0323\u0307 s\u0307\u0323 \uac00\u1100\u1161\u11a8 \u0958 \u212b \u2126 \ufb2c",
    "https://example.com/a/b?q=1&r=%20#frag user@host.org C:\\path\\to /usr/bin x=>y a_b_c camelCase SCREAMING_CASE HTMLParser",
]
SPACES = " \t\n\r\v\f\u0085\u00a0\u1680\u180e\u2000\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff"
DIGITS = "0123456789٠١٢٣०१२๑๒２３𝟘𝟙²³½ⅧⅨ①㊿〇"
BLOCKS = [(0x20, 0x7F), (0xA0, 0x250), (0x370, 0x530), (0x590, 0x700), (0x900, 0xE80), (0x1E00, 0x2070), (0x2100, 0x2400), (0x3040, 0x3100),
          (0x4E00, 0x5000), (0xAC00, 0xAD00), (0xFB00, 0xFB50), (0xFF00, 0xFFF0), (0x10400, 0x10450), (0x1D400, 0x1D800), (0x1F300, 0x1F700)]
MARKS = [chr(c) for c in range(0x300, 0x370)] + list("\u093c\u094d\u0e38\u0e48\u20d0\u3099\u05b0\u0651")



# The tables of Unicode here and in PCRE2 are of version 14, in utf8proc of 15, in HF tokenizers of 16 for properties and of 9 for normal
# forms. Texts of the comparison have what all of them know.
def is_assigned(character):
    return unicodedata.category(character) not in ("Cn", "Cs") and character not in TOO_NEW


def differs(oracle, form, text):
    return unicodedata.normalize(form, text) != oracle.normalize_str(text)


def newer_than_the_oracle():
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    for character in map(chr, range(0x110000)):
        if unicodedata.decomposition(character) and differs(nfkd, "NFKD", character):
            yield character
        elif unicodedata.combining(character) and (differs(nfd, "NFD", character + "\u0323") or differs(nfd, "NFD", "\u0300" + character)):
            yield character


TOO_NEW = set(newer_than_the_oracle())
ASSIGNED = [chr(c) for c in range(0x110000) if is_assigned(chr(c)) and not 0xE000 <= c < 0xF900 and c < 0xF0000]


def code(source, length):
    text = source.choice(SOURCES)
    start = source.randrange(max(1, len(text) - length))
    return text[start : start + length]


def prose(source, length):
    return " ".join(source.choice(SENTENCES) for _ in range(1 + length // 100))[source.randrange(20) :]


def words(source, length):
    low, high = source.choice(BLOCKS)
    letters = [c for c in map(chr, range(low, high)) if is_assigned(c)]
    return " ".join("".join(source.choices(letters, k=source.randrange(1, 12))) for _ in range(length // 6))


def spaces(source, length):
    parts = (source.choice(SPACES) * source.choice([1, 1, 2, 3, 17]) + source.choice(["", "", "a", "É", "1", "!", "文"]) for _ in range(length // 3))
    return "".join(parts)


def digits(source, length):
    parts = ("".join(source.choices(source.choice([DIGITS, DIGITS[:10]]), k=source.randrange(1, 9))) for _ in range(length // 5))
    return source.choice([" ", "", ".", "a"]).join(parts)


def marks(source, length):
    bases = "aAeoſKkÅ가각ㄱᄀ한क日ﬁ"
    return "".join(source.choice(bases) + "".join(source.choices(MARKS, k=source.choice([0, 1, 2, 2, 9]))) for _ in range(length // 3))


def any_characters(source, length):
    return "".join(source.choices(ASSIGNED, k=length))


def broken_bytes(source, length):
    text = prose(source, length).encode()
    noisy = bytes(source.randrange(256) if source.random() < 0.1 else byte for byte in text)
    decoded = noisy.decode(errors="replace") + source.randbytes(length // 4).decode(errors="replace")
    return "".join(c if is_assigned(c) else "\ufffd" for c in decoded)


def long_word(source, length):
    return source.choice(["a", "ab", "é", "日本", " ", "7", "\n", "🙂", "\u0301", "=", "Ab1 "]) * length


def contractions(source, length):
    tails = ["'s", "'S", "'ſ", "'t", "'RE", "'ve", "'Ll", "'d", "'m", "'K", "’s", "'x", "''s", "'"]
    return "".join(source.choice(["it", "IT", "É", "1", " ", "文", "\n", "İ", "\u212a"]) + source.choice(tails) for _ in range(length // 4))


KINDS = [code, prose, words, spaces, digits, marks, any_characters, broken_bytes, long_word, contractions]


def texts(seed, total_bytes, pieces=()):
    """Texts of `total_bytes` in UTF-8 altogether; `pieces` (the names of added tokens) stand in them here and there."""
    source = random.Random(seed)
    yield from SENTENCES
    yield from ("", " ", "\n", "  ", "a", " a", "\u0301", "\x00")
    while total_bytes > 0:
        parts = [source.choice(KINDS)(source, source.choice([3, 30, 300, 1500])) for _ in range(source.randrange(1, 4))]
        for _ in range(source.choice([0, 1, 4, 9]) if pieces else 0):
            at = source.randrange(len(parts) + 1)
            parts.insert(at, source.choice(["", "", " ", "\n ", "x", "é"]) + source.choice(pieces) + source.choice(["", "", " ", " \t", "y", "9"]))
        text = "".join(parts)
        total_bytes -= len(text.encode())
        yield text
