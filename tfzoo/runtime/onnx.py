"""An artifact's ONNX graphs on ONNX Runtime; imports no TensorFlow."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from tfzoo.errors import ArtifactError, one_line
from tfzoo.runtime import onnx_names
from tfzoo.runtime.predictor import Hypotheses, decode_batch, encode_batch
from tfzoo.text import TokenizerPair


class OnnxBackend:
    """The graphs of one artifact; each is loaded when first used.

    Args:
        directory: the artifact.
        tokenizer: its tokenizers.
        max_source_length: longest source in tokens, the end token included; longer texts are cut.

    Raises:
        ArtifactError: when a graph is first used, and does not load.
    """

    def __init__(self, directory: Path, tokenizer: TokenizerPair, max_source_length: int) -> None:
        self._directory = directory
        self._tokenizer = tokenizer
        self._max_source_length = max_source_length
        self._session = functools.cache(self._load)

    def _load(self, path: str) -> onnxruntime.InferenceSession:
        try:
            return onnxruntime.InferenceSession(self._directory / path, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no class in common
            raise ArtifactError(
                f"{self._directory / path} does not load in ONNX Runtime ({one_line(error)}); export it again."
            ) from error

    def generate(self, texts: Sequence[str], options: dict[str, np.ndarray]) -> Hypotheses:
        """See `Backend`."""
        input_ids = encode_batch(texts, self._tokenizer, self._max_source_length)
        feed = {"input_ids": input_ids, "attention_mask": self._attention_mask(input_ids), **options}
        token_ids, scores = self._session(onnx_names.GENERATE).run(["sequences", "scores"], feed)
        return decode_batch(token_ids, scores, self._tokenizer)

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """See `Backend`; the decoder reads all tokens at once."""
        return self._decode(inputs, chunks=[inputs["decoder_token_ids"]])

    def stepwise_logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """The same, one token at a time with the cache, as a decoding loop on the consumer's side runs."""
        return self._decode(
            inputs, chunks=np.split(inputs["decoder_token_ids"], inputs["decoder_token_ids"].shape[1], 1)
        )

    def _decode(self, inputs: dict[str, np.ndarray], chunks: list[np.ndarray]) -> np.ndarray:
        input_ids = inputs["encoder_token_ids"].astype(np.int64)
        attention_mask = self._attention_mask(input_ids).astype(np.int64)
        (memory,) = self._session(onnx_names.ENCODER).run(
            ["last_hidden_state"], {"input_ids": input_ids, "attention_mask": attention_mask}
        )
        decoder = self._session(onnx_names.DECODER)
        past = {}
        for value in decoder.get_inputs():
            if value.name.startswith("past_key_values."):
                _, num_heads, _, head_dim = value.shape
                past[value.name] = np.zeros((len(input_ids), num_heads, 0, head_dim), np.float32)
        names = [value.name for value in decoder.get_outputs()]
        logits = []
        for index, chunk in enumerate(chunks):
            feed = {
                "input_ids": chunk.astype(np.int64),
                "encoder_attention_mask": attention_mask,
                "encoder_hidden_states": memory,
                "use_cache_branch": np.array([index > 0]),
                **past,
            }
            found = dict(zip(names, decoder.run(names, feed), strict=True))
            logits.append(found.pop("logits"))
            past = {name.replace("present", "past_key_values"): value for name, value in found.items()}
        return np.concatenate(logits, axis=1)

    def _attention_mask(self, input_ids: np.ndarray) -> np.ndarray:
        return (input_ids != self._tokenizer.source.pad_id).astype(np.int32)
