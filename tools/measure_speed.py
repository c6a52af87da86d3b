"""transformers' speed beside `tritllm bench --synthetic llama-3.1-8b`: the same shape, random FP16 weights, greedy decoding on a CUDA device.

    python tools/measure_speed.py

Prints tokens/s of 1 and of 32 sequences after prompts of 512 tokens (64 tokens each, the better of two), and of a prompt of 1,024 tokens
(the best of three). Needs torch and transformers, and 20 GB on the card.
"""

import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

SHAPE = {"vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "max_position_embeddings": 8192}
TOKENS = 64


def seconds(work):
    torch.cuda.synchronize()
    begin = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - begin


def decoding_seconds(model, prompts):
    """Of TOKENS tokens, without the prompts."""

    def generate(tokens):
        model.generate(prompts, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0)

    generate(8)
    return min(seconds(lambda: generate(1 + TOKENS)) - seconds(lambda: generate(1)) for _ in range(2))


@torch.no_grad()
def main():
    torch.set_default_dtype(torch.float16)
    torch.set_default_device("cuda")
    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).eval()
    for batch in (1, 32):
        prompts = torch.randint(0, SHAPE["vocab_size"], (batch, 512))
        print(f"{batch} sequences: {batch * TOKENS / decoding_seconds(model, prompts):.1f} tokens/s", flush=True)
    prompt = torch.randint(0, SHAPE["vocab_size"], (1, 1024))
    fastest = min(seconds(lambda: model(prompt, logits_to_keep=1)) for _ in range(3))
    print(f"a prompt of 1024: {1024 / fastest:.0f} tokens/s")


if __name__ == "__main__":
    main()
