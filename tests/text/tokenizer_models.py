"""Tokenizers as the families of models publish them, and others that use every supported part: small, trained here."""
import json

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizer_texts import SENTENCES, SOURCES

CORPUS = SOURCES + SENTENCES * 3
BYTES = pre_tokenizers.ByteLevel.alphabet()

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + TAIL
QWEN35 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + TAIL
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
WORD = r"[^\r\n\p{L}\p{N}]?"
O200K = (
    f"{WORD}{UPPER}*{LOWER}+{CONTRACTIONS}?|{WORD}{UPPER}+{LOWER}*{CONTRACTIONS}?" + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL
)
TEKKEN = f"{WORD}{UPPER}*{LOWER}+|{WORD}{UPPER}+{LOWER}*" + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*" + TAIL
DEEPSEEK = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
]

SPECIAL = [
    AddedToken("<|im_start|>", special=True, normalized=False),
    AddedToken("<|im_end|>", special=True, normalized=False),
    AddedToken("<|im_end|><|x|>", special=True, normalized=False),
    AddedToken("<left>", special=True, normalized=False, lstrip=True),
    AddedToken("<right>", special=True, normalized=False, rstrip=True),
    AddedToken("<both>", special=True, normalized=False, lstrip=True, rstrip=True),
    AddedToken("<Norm é>", special=True, normalized=True),
]
PLAIN = [
    AddedToken("word", single_word=True, normalized=False),
    AddedToken("Norm word", single_word=True, normalized=True),
    AddedToken("<tool>", normalized=False),
    AddedToken("<tool>x", normalized=False, single_word=True),
    AddedToken("é́ tail", normalized=True, rstrip=True),
    AddedToken("ﬁ½", normalized=True, lstrip=True),
    AddedToken("\n\n", normalized=False),
    AddedToken("\n \n\n", normalized=False),
    AddedToken("   ", normalized=False),
]
PIECES = [token.content for token in SPECIAL + PLAIN] + ["<|im_end|><|x|", "<|im_", "<tool>xy", "words", " word ", "<S>", "<right> <left>", "<right>\n\n\n \n\n"]


def train(tokenizer, *, alphabet=(), limit=None, size=1500, special=SPECIAL, plain=PLAIN, extra=(), post=None):
    limits = {"limit_alphabet": limit} if limit else {}
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(alphabet), special_tokens=list(extra), show_progress=False, **limits)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(list(special))
    tokenizer.add_tokens(list(plain))
    if post:
        ids = [(name, tokenizer.token_to_id(name)) for name in ("<|im_start|>", "<|im_end|>")]
        template = processors.TemplateProcessing(single=post, pair="$A $B", special_tokens=ids)
        current = tokenizer.post_processor
        tokenizer.post_processor = processors.Sequence([current, template]) if current else template
    return tokenizer


def byte_level(splits=(), *, normalizer=None, digits=None, add_prefix_space=False, ignore_merges=False, post=None, **training):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    parts = [] if digits is None else [pre_tokenizers.Digits(individual_digits=digits)]
    parts += [pre_tokenizers.Split(Regex(split), behavior="isolated") for split in splits]
    parts.append(pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=not splits))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts) if len(parts) > 1 else parts[0]
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    if normalizer:
        tokenizer.normalizer = normalizer
    return train(tokenizer, alphabet=BYTES, post=post, **training)


BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
SPACE_DECODERS = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


def sentencepiece(*, normalizer=None, pre_tokenizer=None, decoder=None, byte_fallback=True, fuse_unk=True, unk="<unk>", missing=(), **training):
    tokenizer = Tokenizer(models.BPE(byte_fallback=byte_fallback, fuse_unk=fuse_unk, unk_token=unk))
    # Merging across words is what these models may do; training it would take long, so training is done by words.
    tokenizer.normalizer = normalizer or normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.Split("▁", "merged_with_next")
    extra = ["<unk>", "<s>", "</s>"] + ([token for token in BYTE_TOKENS if token not in missing] if byte_fallback else [])
    train(tokenizer, limit=120, extra=extra, **training)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder or decoders.Sequence(SPACE_DECODERS)
    # The trainer made added tokens of these; in the files of real models they are tokens of the vocabulary alone.
    file = json.loads(tokenizer.to_str())
    file["added_tokens"] = [token for token in file["added_tokens"] if token["content"] not in BYTE_TOKENS]
    return Tokenizer.from_str(json.dumps(file))


def gemma():
    tokenizer = sentencepiece(post="<|im_start|> $A")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    return tokenizer


def llama2():
    return sentencepiece(
        normalizer=normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
        decoder=decoders.Sequence(SPACE_DECODERS + [decoders.Strip(" ", 1, 0)]),
        post="<|im_start|> $A",
    )


def metaspace(scheme, split, **training):
    tokenizer = sentencepiece(
        normalizer=training.pop("normalizer", normalizers.NFC()),
        pre_tokenizer=pre_tokenizers.Metaspace("▁", scheme, True),
        decoder=decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", scheme, split)]),
        **training,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", scheme, split)
    return tokenizer


def behaviors(pattern, behavior, invert, **training):
    """A plain model of characters behind one split; what a removed split takes away is gone for good."""
    split = pre_tokenizers.Split(pattern, behavior, invert)
    return sentencepiece(normalizer=normalizers.NFKC(), pre_tokenizer=split, decoder=decoders.Fuse(), byte_fallback=False, size=600, **training)


def no_decoder():
    tokenizer = behaviors(Regex(r"\w+|[^\w\s]+"), "contiguous", True, fuse_unk=False)
    tokenizer.no_padding()
    tokenizer.decoder = None
    return tokenizer


FAMILIES = {
    "gpt2": lambda: byte_level(),
    "gpt2 with prefix": lambda: byte_level(add_prefix_space=True, post="<|im_start|> $A <|im_end|>"),
    "smollm": lambda: byte_level(digits=True),
    "digit runs": lambda: byte_level(digits=False, normalizer=normalizers.NFD()),
    "llama3": lambda: byte_level([LLAMA3], ignore_merges=True, post="<|im_start|> $A"),
    "qwen2": lambda: byte_level([QWEN2], normalizer=normalizers.NFC()),
    "qwen3.5": lambda: byte_level([QWEN35], normalizer=normalizers.NFC()),
    "o200k": lambda: byte_level([O200K]),
    "tekken": lambda: byte_level([TEKKEN], ignore_merges=True),
    "deepseek": lambda: byte_level(DEEPSEEK),
    "gemma": gemma,
    "llama2": llama2,
    "mistral, first": lambda: metaspace("first", False),
    "metaspace, always": lambda: metaspace("always", True, normalizer=normalizers.NFKC()),
    "metaspace, first": lambda: metaspace("first", True, normalizer=normalizers.Strip()),
    "metaspace, never": lambda: metaspace("never", True, normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.Strip(right=False)])),
    "missing bytes": lambda: sentencepiece(missing=[f"<0x{byte:02X}>" for byte in range(0xE3, 0xF0)]),
    "missing bytes, unknown apart": lambda: sentencepiece(missing=["<0xE6>", "<0x9F>"], fuse_unk=False),
    "no unknown token": lambda: sentencepiece(unk=None, byte_fallback=False),
    "regex replace": lambda: sentencepiece(normalizer=normalizers.Sequence([normalizers.Replace(Regex(r"\s{2,}"), "▁"), normalizers.Replace(" ", "▁")])),
    "isolated": lambda: behaviors(Regex(r"\s+"), "isolated", False),
    "removed": lambda: behaviors(Regex(r"\s|x*"), "removed", False),
    "merged with previous": lambda: behaviors(Regex(r"[aeiou]|\d"), "merged_with_previous", False),
    "merged with next, inverted": lambda: behaviors(Regex(r"(?<=[a-z])[^a-z]++|^.|e(?=r)"), "merged_with_next", True),
    "contiguous": lambda: behaviors("e", "contiguous", False),
    "no decoder": no_decoder,
}
