"""Sampling of the next token, from arithmetic that every runtime does alike.

TensorFlow's random operators do not convert to ONNX, and ONNX' own cannot be seeded by an input. Here one uniform
number per row and step comes from a block cipher over integers (MiMC; Albrecht et al., 2016), and picks a token from
the cumulative distribution: with equal seeds, Keras, SavedModel and ONNX sample equal tokens.
"""

from __future__ import annotations

import tensorflow as tf

from tfzoo.decoding.config import PRIME, ROUND_CONSTANTS


def uniform(*keys: tf.Tensor) -> tf.Tensor:
    """One number in [0, 1] for each row of `keys`, which looks random and depends on all of them.

    Args:
        *keys: (B,) int64 each, such as seed and step.

    Returns: (B,) float32.
    """
    mixed = tf.zeros_like(keys[0])
    for key in keys:
        # Twice the prime makes a negative int32 key positive: the remainder of a negative number is another in ONNX.
        mixed = tf.math.floormod(mixed + key + 2 * PRIME, PRIME)
        for constant in ROUND_CONSTANTS:
            mixed = tf.math.floormod(mixed + constant, PRIME)
            square = tf.math.floormod(mixed * mixed, PRIME)
            mixed = tf.math.floormod(tf.math.floormod(square * square, PRIME) * mixed, PRIME)
    return tf.cast(mixed, tf.float32) / tf.cast(PRIME, tf.float32)


def sample(
    logits: tf.Tensor,
    temperature: tf.Tensor,
    top_k: tf.Tensor,
    top_p: tf.Tensor,
    seed: tf.Tensor,
    step: tf.Tensor,
) -> tf.Tensor:
    """Draws a token for each row: temperature, then top-k (Fan et al., 2018), then top-p (Holtzman et al., 2020).

    Args:
        logits: (B, V) float32.
        temperature: (B,) float32; rows at 0 are drawn at 1, for a caller that discards them.
        top_k: (B,) int32; 0 = all.
        top_p: (B,) float32; 1 = all.
        seed: (B,) int64.
        step: () int32, number of tokens before.

    Returns: (B,) int32 token ids.
    """
    vocabulary_size = logits.shape[-1]
    logits = logits / tf.where(temperature > 0, temperature, 1.0)[:, tf.newaxis]
    logits, token_ids = tf.math.top_k(logits, vocabulary_size)
    allowed = tf.where(top_k > 0, top_k, vocabulary_size)[:, tf.newaxis]
    in_top_k = tf.range(vocabulary_size)[tf.newaxis] < allowed
    probs = tf.nn.softmax(tf.where(in_top_k, logits, -1e9))
    before = tf.cumsum(probs, axis=-1) - probs  # what likelier tokens hold together
    kept = in_top_k & ((before < top_p[:, tf.newaxis]) | (top_p >= 1)[:, tf.newaxis])
    cumulative = tf.cumsum(tf.where(kept, probs, 0.0), axis=-1)
    point = uniform(seed, tf.fill(tf.shape(seed), tf.cast(step, tf.int64))) * cumulative[:, -1]
    rank = tf.reduce_sum(tf.cast(cumulative <= point[:, tf.newaxis], tf.int32), axis=-1)
    rank = tf.minimum(rank, tf.reduce_sum(tf.cast(kept, tf.int32), axis=-1) - 1)
    return tf.gather(token_ids, rank[:, tf.newaxis], batch_dims=1)[:, 0]
