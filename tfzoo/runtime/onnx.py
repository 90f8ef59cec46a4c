"""An artifact's ONNX graphs on ONNX Runtime, by task; imports no TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from tfzoo.errors import ArtifactError, one_line
from tfzoo.runtime import onnx_names
from tfzoo.runtime.encoder import ENCODER_TASKS, joined
from tfzoo.runtime.predictor import Backend, Hypotheses, Reader, decode_batch
from tfzoo.runtime.tasks import encode_prompts, encode_sources
from tfzoo.text import TokenizerPair

Sessions = Callable[[str], onnxruntime.InferenceSession]


def sessions(directory: Path) -> Sessions:
    """Returns what loads a graph of an artifact by its path there, each when it is first asked for.

    Raises:
        ArtifactError: when a graph is asked for that does not load.
    """

    @functools.cache
    def load(path: str) -> onnxruntime.InferenceSession:
        try:
            return onnxruntime.InferenceSession(directory / path, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no class in common
            raise ArtifactError(
                f"{directory / path} does not load in ONNX Runtime ({one_line(error)}); export it again."
            ) from error

    return load


class Seq2SeqBackend:
    """The encoder, the decoder and the search of a sequence-to-sequence model.

    Args:
        directory: the artifact.
        tokenizer: its tokenizers.
        max_length: longest source in tokens, the end token included; longer texts are cut.

    Raises:
        ArtifactError: when a graph is first used, and does not load.
    """

    def __init__(self, directory: Path, tokenizer: TokenizerPair, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._session = sessions(directory)

    def generate(self, texts: Sequence[str], options: dict[str, np.ndarray]) -> Hypotheses:
        """See `SearchBackend`."""
        inputs = encode_sources(texts, self._tokenizer, self._max_length, options["max_length"])
        input_ids = inputs["encoder_token_ids"]
        feed = {"input_ids": input_ids, "attention_mask": self._attention_mask(input_ids), **options}
        return decode_batch(_search(self._session, feed), self._tokenizer)

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `Backend`; the decoder reads all tokens at once."""
        return self._decode(inputs, [inputs["decoder_token_ids"]])

    def stepwise_logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """The same, one token at a time with the cache, as a decoding loop on the consumer's side runs."""
        return self._decode(inputs, _columns(inputs["decoder_token_ids"]))

    def read(self, text: str, new_tokens: int) -> tuple[list[int], Reader]:
        """See `SearchBackend`."""
        inputs = encode_sources([text], self._tokenizer, self._max_length, np.array([new_tokens]))
        read: list[int] = []

        def logits(token_id: int) -> np.ndarray:
            read.append(token_id)
            return self.logits(inputs | {"decoder_token_ids": np.array([read], np.int32)})[0, -1]

        return [self._tokenizer.target.start_id], logits

    def _decode(self, inputs: dict[str, np.ndarray], chunks: list[np.ndarray]) -> np.ndarray:
        input_ids = inputs["encoder_token_ids"].astype(np.int64)
        attention_mask = self._attention_mask(input_ids).astype(np.int64)
        encoder, decoder = self._session(onnx_names.ENCODER), self._session(onnx_names.DECODER)
        encoded = _outputs(encoder, {"input_ids": input_ids, "attention_mask": attention_mask})
        source = {"encoder_attention_mask": attention_mask}
        if "last_hidden_state" in encoded:
            source["encoder_hidden_states"] = encoded["last_hidden_state"]
            past = _no_past(decoder, len(input_ids))
        else:  # a recurrent encoder gives the decoder's first state
            past = _next_past(decoder, encoded)
        read = {value.name for value in decoder.get_inputs()}
        logits = []
        for index, chunk in enumerate(chunks):
            feed = {"input_ids": chunk.astype(np.int64), "use_cache_branch": np.array([index > 0]), **source}
            scores, past = _run(decoder, {name: value for name, value in feed.items() if name in read}, past)
            logits.append(scores)
        return np.concatenate(logits, axis=1)

    def _attention_mask(self, input_ids: np.ndarray) -> np.ndarray:
        return (input_ids != self._tokenizer.source.pad_id).astype(np.int32)


class CausalLmBackend:
    """The decoder with past and the search of a language model.

    Args:
        directory: the artifact.
        tokenizer: its tokenizer, twice.
        max_length: longest prompt with its answer, in tokens.

    Raises:
        ArtifactError: when a graph is first used, and does not load.
    """

    def __init__(self, directory: Path, tokenizer: TokenizerPair, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._session = sessions(directory)

    def generate(self, texts: Sequence[str], options: dict[str, np.ndarray]) -> Hypotheses:
        """See `SearchBackend`."""
        inputs = encode_prompts(texts, self._tokenizer, self._max_length, options["max_length"])
        feed = {"input_ids": inputs["token_ids"], "attention_mask": inputs["padding_mask"], **options}
        return decode_batch(_search(self._session, feed), self._tokenizer)

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `Backend`; all tokens at once."""
        return self._decode([(inputs["token_ids"], inputs["padding_mask"])])

    def stepwise_logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """The same, one token at a time with the state, as a decoding loop on the consumer's side runs."""
        return self._decode(zip(_columns(inputs["token_ids"]), _columns(inputs["padding_mask"]), strict=True))

    def read(self, text: str, new_tokens: int) -> tuple[list[int], Reader]:
        """See `Backend`."""
        model = self._session(onnx_names.MODEL)
        inputs = encode_prompts([text], self._tokenizer, self._max_length, np.array([new_tokens]))
        (prompt,) = inputs["token_ids"].tolist()
        past = _no_past(model, 1)
        unread, num_read = prompt[:-1], 0

        def logits(token_id: int) -> np.ndarray:
            nonlocal past, unread, num_read
            tokens, unread = [*unread, token_id], []
            num_read += len(tokens)
            feed = {"input_ids": np.array([tokens], np.int64), "attention_mask": np.ones((1, num_read), np.int64)}
            scores, past = _run(model, feed, past)
            return scores[0, -1]

        return prompt, logits

    def _decode(self, chunks: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        model = self._session(onnx_names.MODEL)
        past: dict[str, np.ndarray] = {}
        mask = None
        logits = []
        for chunk, real in chunks:
            past = past or _no_past(model, len(chunk))
            mask = real if mask is None else np.concatenate([mask, real], axis=1)
            feed = {"input_ids": chunk.astype(np.int64), "attention_mask": mask.astype(np.int64)}
            scores, past = _run(model, feed, past)
            logits.append(scores)
        return np.concatenate(logits, axis=1)


class EncoderBackend:
    """The one graph of an encoder.

    Args:
        directory: the artifact.
        tokenizer: not used; texts become ids elsewhere.
        max_length: not used.

    Raises:
        ArtifactError: when the graph is first used, and does not load.
    """

    def __init__(self, directory: Path, tokenizer: TokenizerPair, max_length: int) -> None:
        self._session = sessions(directory)

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `Backend`."""
        model = self._session(onnx_names.MODEL)
        feed = {onnx_names.ENCODER_INPUTS[name]: value.astype(np.int64) for name, value in inputs.items()}
        names = [value.name for value in model.get_outputs() if value.name != onnx_names.HIDDEN_STATE]
        return joined(dict(zip(names, model.run(names, feed), strict=True)))


def _search(session: Sessions, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    token_ids, log_probs, scores = session(onnx_names.GENERATE).run(["sequences", "log_probs", "scores"], feed)
    return {"token_ids": token_ids, "log_probs": log_probs, "scores": scores}


def _columns(values: np.ndarray) -> list[np.ndarray]:
    """(B, T) -> T times (B, 1)."""
    return np.split(values, values.shape[1], axis=1)


def _no_past(model: onnxruntime.InferenceSession, num_rows: int) -> dict[str, np.ndarray]:
    """The state before the first token: keys and values of length 0, recurrent states of zeros."""
    past = {}
    for value in model.get_inputs():
        if value.name.startswith("past_"):
            sizes = [size if isinstance(size, int) else 0 for size in value.shape[1:]]
            past[value.name] = np.zeros((num_rows, *sizes), np.float32)
    return past


def _run(
    model: onnxruntime.InferenceSession, feed: dict[str, np.ndarray], past: dict[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One call: logits, and the past of the next call."""
    found = _outputs(model, feed | past)
    return found["logits"], past | _next_past(model, found)


def _outputs(model: onnxruntime.InferenceSession, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [value.name for value in model.get_outputs()]
    return dict(zip(names, model.run(names, feed), strict=True))


def _next_past(model: onnxruntime.InferenceSession, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What came out as `present.*`, by the names of the inputs that take it."""
    past = {}
    for value in model.get_inputs():
        present = f"present.{value.name.partition('.')[2]}"
        if value.name.startswith("past_") and present in found:
            past[value.name] = found[present]
    return past


BACKENDS: dict[str, Callable[[Path, TokenizerPair, int], Backend]] = {
    "seq2seq": Seq2SeqBackend,
    "causal_lm": CausalLmBackend,
    **dict.fromkeys(ENCODER_TASKS, EncoderBackend),
}
