"""A model that answers: prompts, conversations, streams and scores."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from . import _native
from .errors import Error, InvalidInputError

__all__ = ["LLM", "Answer", "Score", "StreamEvent", "Prompt", "Message"]

Prompt = str | Sequence[int] | np.ndarray
"""A text, or token ids: a list, or a numpy array of whole numbers of shape [tokens]."""
Message = Mapping[str, Any]
"""``{"role": "user", "content": "..."}``, as OpenAI's clients write it."""

# A wait this long only bounds how late a generator that nobody reads is collected.
_WAIT_SECONDS = 3600.0


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Attributes:
        text: the answer, without the stop string and the end token.
        tokens: its token ids, the end token included.
        logprobs: float32 [tokens], natural logarithms of each token's probability before temperature and penalties; None unless
            asked for.
        top_logprobs: for each token, {token id: log probability} of the most probable ones; None unless asked for.
        finish_reason: "end_token", "stop_string", "length", "context", or "cancelled".
        prompt_tokens: how many tokens the prompt has.
        reused_tokens: how many of these were in the cache already.
        message: of a conversation: {"role": "assistant", "content", ...} with "reasoning_content" and "tool_calls" where there are
            any; it can be appended to the conversation. None of a plain prompt.
    """

    text: str
    tokens: list[int]
    finish_reason: str
    logprobs: np.ndarray | None = None
    top_logprobs: list[dict[int, float]] | None = None
    prompt_tokens: int = 0
    reused_tokens: int = 0
    message: dict[str, Any] | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class StreamEvent:
    """A piece of an answer, as it is written.

    Attributes:
        text: what is certain to belong to the answer; may be empty.
        token: the token that this is about; None in an event that only ends the answer.
        answer: in the last event, the whole answer; else None.
    """

    text: str
    token: int | None
    answer: Answer | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Score:
    """How probable a model holds a text.

    Attributes:
        tokens: the text's token ids.
        logprobs: float32 [tokens - 1]: of each token but the first, the natural logarithm of its probability after those before.
        top_logprobs: of the same tokens, {token id: log probability} of the most probable ones; None unless asked for.
    """

    tokens: list[int]
    logprobs: np.ndarray
    top_logprobs: list[dict[int, float]] | None = None

    @property
    def total(self) -> float:
        """The sum of the logarithms: that of the whole text's probability after its first token."""
        return float(self.logprobs.sum(dtype=np.float64))

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log probability; NaN for a text of one token."""
        return float(np.exp(-self.logprobs.mean(dtype=np.float64))) if len(self.logprobs) else float("nan")


@dataclass
class _Flight:
    """A request that is being answered."""

    generation: _native.Generation
    wants_scores: bool
    wants_tops: bool

    def answer(self) -> Answer:
        found = json.loads(self.generation.answer())
        if found["finish_reason"] == "failed":
            raise Error(found["error"], "generation", found["error"])
        return Answer(
            text=found["text"], tokens=found["tokens"], finish_reason=found["finish_reason"],
            logprobs=self.generation.logprobs() if self.wants_scores else None,
            top_logprobs=self.generation.top_logprobs() if self.wants_tops else None,
            prompt_tokens=found["prompt_tokens"], reused_tokens=found["reused_tokens"], message=found.get("message"))

    def wait(self) -> Answer:
        while not self.generation.ended:
            self.generation.next_event(_WAIT_SECONDS)
        return self.answer()

    def events(self) -> Iterator[StreamEvent]:
        try:
            while not self.generation.ended:
                event = self.generation.next_event(_WAIT_SECONDS)
                if event is not None:
                    text, token, ended = event
                    yield StreamEvent(text, token, self.answer() if ended else None)
        finally:
            self.generation.cancel()


def _plain(value: Any) -> Any:
    """Numpy's numbers and arrays, and mappings, as json.dumps() takes them."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (Sequence, set)):
        return list(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _json(value: Any) -> str:
    try:
        return json.dumps(value, default=_plain, allow_nan=False)
    except ValueError as error:
        raise InvalidInputError(str(error), "request", str(error)) from None


def _is_one(prompt: Any) -> bool:
    """Whether this is one prompt and not a list of them."""
    if isinstance(prompt, str):
        return True
    if isinstance(prompt, np.ndarray):
        return prompt.ndim == 1
    return len(prompt) > 0 and isinstance(prompt[0], (int, np.integer))


def _one(prompt: Prompt) -> str | list[int]:
    if isinstance(prompt, str):
        return prompt
    tokens = np.asarray(prompt)
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        problem = f"expected a text or whole numbers [tokens], found {tokens.dtype} {list(tokens.shape)}"
        raise InvalidInputError(f"prompt: {problem}", "prompt", problem)
    return tokens.tolist()


class LLM:
    """A model with its engine: requests are computed together, whichever thread they come from.

    Args:
        model: a packed folder, a folder that holds one, a Hugging Face folder, or a GGUF file.
        device: "cpu", "cuda", "cuda:1", or "auto": a CUDA device that has room, else the CPU.
        context: the most tokens of prompt and answer together; 0: what the model was trained for, at most 8192.
        slots: how many requests are computed together; further ones wait.
        threads: of the CPU; 0: all processors.
        arithmetic: "int8": activations in 8 bits, many times faster; "f32": weights decoded to float32.
        cache: "f16", "f32", "fp8" or "int8": the element type of the key/value cache. The last two take about half of f16's memory.
        cache_tokens: how many tokens that cache holds; 0: the whole context for each slot.

    Raises:
        NotFoundError: there is no model.
        InvalidInputError: a file breaks its format, or an argument is out of range.
        UnsupportedError: the model is of a kind that is not run.
    """

    def __init__(self, model: str | os.PathLike[str], *, device: str = "auto", context: int = 0, slots: int = 8, threads: int = 0,
                 arithmetic: str = "int8", cache: str = "f16", cache_tokens: int = 0) -> None:
        self._generator = _native.Generator(_json({
            "model": os.fspath(model), "device": device, "context": context, "slots": slots, "threads": threads,
            "arithmetic": arithmetic, "cache": cache, "cache_tokens": cache_tokens}))
        self._facts = json.loads(self._generator.facts())

    def __repr__(self) -> str:
        return f"LLM({self._facts['model']!r}, device={self.device!r}, context={self.context})"

    @property
    def device(self) -> str:
        """What computes, such as "cpu (avx512, 8 threads)"."""
        return self._facts["device"]

    @property
    def context(self) -> int:
        """The most tokens of prompt and answer together."""
        return self._facts["context"]

    @property
    def end_tokens(self) -> list[int]:
        """Token ids that end an answer."""
        return self._facts["end_tokens"]

    @property
    def warnings(self) -> list[str]:
        """What was odd about the model's files."""
        return self._facts["warnings"]

    @property
    def has_chat_template(self) -> bool:
        """Whether chat() works."""
        return self._facts["has_chat_template"]

    def encode(self, text: str, *, parse_special: bool = False) -> list[int]:
        """Token ids of a text, with those that the tokenizer puts around it. Names of control tokens are text unless asked for."""
        return self._generator.encode(text, parse_special)

    def encode_chat(self, messages: Sequence[Message], **options: Any) -> list[int]:
        """Token ids of a conversation, up to where its answer begins. Options: tools, chat_template_kwargs."""
        return self._generator.encode_chat(_json({"messages": list(messages), **options}))

    def decode(self, tokens: Sequence[int] | np.ndarray, *, skip_special: bool = True) -> str:
        """The text of token ids. Bytes that are no UTF-8 become U+FFFD."""
        return self._generator.decode(_one(tokens) if len(tokens) else [], skip_special)

    def _start(self, request: dict[str, Any], logprobs: bool | int) -> _Flight:
        # True is 1, and means no other tokens beside the answer's own.
        top = 0 if isinstance(logprobs, bool) else int(logprobs)
        wanted = {name: value for name, value in request.items() if value is not None}
        if logprobs is not False:
            wanted["logprobs"] = True
        if top:
            wanted["top_logprobs"] = top
        return _Flight(self._generator.start(_json(wanted)), logprobs is not False, top > 0)

    @staticmethod
    def _wait(flights: Sequence[_Flight]) -> list[Answer]:
        try:
            return [flight.wait() for flight in flights]
        except BaseException:
            for flight in flights:
                flight.generation.cancel()
            raise

    @overload
    def generate(self, prompt: Prompt, **options: Any) -> Answer: ...
    @overload
    def generate(self, prompt: Sequence[Prompt], **options: Any) -> list[Answer]: ...

    def generate(self, prompt: Prompt | Sequence[Prompt], *, max_tokens: int | None = None, logprobs: bool | int = False,
                 **options: Any) -> Answer | list[Answer]:
        """Continues a prompt as it stands, or each of a list, which are computed together.

        Args:
            prompt: a text, token ids [tokens], or a list of these.
            max_tokens: of the answer; None: the end of the context.
            logprobs: whether the answer has log probabilities; a number also gives so many of the most probable tokens.
            options: temperature, top_k, top_p, min_p, typical_p, repeat_penalty, presence_penalty, frequency_penalty,
                penalty_window, logit_bias {token id: bias}, seed, stop (a text or a list), ignore_eos, parse_special and
                response_format. What is not given is the model's own default, as its generation_config.json has it.
                temperature=0 is greedy.

        Returns:
            An answer, or a list of them in the order of the prompts.

        Raises:
            InvalidInputError: an option is unknown or out of range, or the prompt leaves no room in the context.
            KeyboardInterrupt: Ctrl-C; the requests are cancelled.
        """
        single = _is_one(prompt)
        prompts = [prompt] if single else list(prompt)
        flights: list[_Flight] = []
        try:
            for one in prompts:
                flights.append(self._start({"prompt": _one(one), "max_tokens": max_tokens, **options}, logprobs))
        except BaseException:
            for flight in flights:
                flight.generation.cancel()
            raise
        answers = self._wait(flights)
        return answers[0] if single else answers

    def chat(self, messages: Sequence[Message] | str, *, max_tokens: int | None = None, logprobs: bool | int = False,
             **options: Any) -> Answer:
        """Answers a conversation, written by the model's chat template. A text stands for one message of the user.

        Options are those of generate(), and tools, tool_choice, chat_template_kwargs and reasoning_effort. Text of the messages
        never becomes a control token.

        Raises:
            InvalidInputError: as generate(); also where the template refuses the messages.
            NotFoundError: the model has no chat template.
        """
        return self._wait([self._start_chat(messages, max_tokens, logprobs, options)])[0]

    def _start_chat(self, messages: Sequence[Message] | str, max_tokens: int | None, logprobs: bool | int,
                    options: dict[str, Any]) -> _Flight:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self._start({"messages": list(messages), "max_tokens": max_tokens, **options}, logprobs)

    def stream(self, prompt: Prompt | Sequence[Message], *, max_tokens: int | None = None, logprobs: bool | int = False,
               **options: Any) -> Iterator[StreamEvent]:
        """The same as generate() or, for a list of messages, chat(), piece by piece. Closing the iterator cancels the request."""
        return self._start_stream(prompt, max_tokens, logprobs, options).events()

    def _start_stream(self, prompt: Prompt | Sequence[Message], max_tokens: int | None, logprobs: bool | int,
                      options: dict[str, Any]) -> _Flight:
        if not isinstance(prompt, (str, np.ndarray)) and len(prompt) > 0 and isinstance(prompt[0], Mapping):
            return self._start_chat(prompt, max_tokens, logprobs, options)
        return self._start({"prompt": _one(prompt), "max_tokens": max_tokens, **options}, logprobs)

    @overload
    def score(self, text: Prompt, *, top_logprobs: int = 0) -> Score: ...
    @overload
    def score(self, text: Sequence[Prompt], *, top_logprobs: int = 0) -> list[Score]: ...

    def score(self, text: Prompt | Sequence[Prompt], *, top_logprobs: int = 0) -> Score | list[Score]:
        """How probable the model holds a text, or each of a list: the log probability of every token after those before.

        Args:
            text: a text, token ids [tokens], or a list of these.
            top_logprobs: also so many of the most probable tokens at each place.
        """
        single = _is_one(text)
        texts = [text] if single else list(text)
        prompts = [self.encode(one) if isinstance(one, str) else _one(one) for one in texts]
        request = {"max_tokens": 0, "prompt_logprobs": True, "top_logprobs": top_logprobs or None}
        flights = [self._start({"prompt": prompt, **request}, False) for prompt in prompts]
        self._wait(flights)
        scores = [Score(prompt, flight.generation.prompt_logprobs(), flight.generation.prompt_top_logprobs() if top_logprobs else None)
                  for prompt, flight in zip(prompts, flights)]
        return scores[0] if single else scores

    async def agenerate(self, prompt: Prompt | Sequence[Prompt], **options: Any) -> Answer | list[Answer]:
        """generate() for asyncio. Cancelling the task cancels the requests."""
        single = _is_one(prompt)
        max_tokens, logprobs = options.pop("max_tokens", None), options.pop("logprobs", False)
        flights = [self._start({"prompt": _one(one), "max_tokens": max_tokens, **options}, logprobs)
                   for one in ([prompt] if single else list(prompt))]
        answers = await self._await(flights)
        return answers[0] if single else answers

    async def achat(self, messages: Sequence[Message] | str, *, max_tokens: int | None = None, logprobs: bool | int = False,
                    **options: Any) -> Answer:
        """chat() for asyncio. Cancelling the task cancels the request."""
        return (await self._await([self._start_chat(messages, max_tokens, logprobs, options)]))[0]

    async def _await(self, flights: Sequence[_Flight]) -> list[Answer]:
        try:
            return [await asyncio.to_thread(flight.wait) for flight in flights]
        finally:
            for flight in flights:
                flight.generation.cancel()

    async def astream(self, prompt: Prompt | Sequence[Message], *, max_tokens: int | None = None, logprobs: bool | int = False,
                      **options: Any) -> AsyncIterator[StreamEvent]:
        """stream() for asyncio."""
        flight = self._start_stream(prompt, max_tokens, logprobs, options)
        try:
            while not flight.generation.ended:
                event = await asyncio.to_thread(flight.generation.next_event, _WAIT_SECONDS)
                if event is not None:
                    text, token, ended = event
                    yield StreamEvent(text, token, flight.answer() if ended else None)
        finally:
            flight.generation.cancel()
