"""Recipes of the encoder-decoder Transformer (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762).

`base` and `big` are rows of the paper's table 3. They differ from the paper in two ways: subwords are SentencePiece's,
and the last checkpoints are not averaged.
"""

from __future__ import annotations

from tfzoo.data.config import DataConfig
from tfzoo.decoding.config import DecodingConfig
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.models.config import TransformerConfig
from tfzoo.recipes.recipe import Recipe
from tfzoo.text.config import TokenizerConfig
from tfzoo.training.config import TrainingConfig


def tiny() -> Recipe:
    """The smallest encoder-decoder that still has every part twice: for tests and first tries.

    Paper: architecture of https://arxiv.org/abs/1706.03762, not a row of it.
    Command: tfzoo train --recipe=transformer_tiny --run_dir=runs/tiny --data=tsv:pairs.tsv
    Duration, score: not measured.
    """
    return Recipe(
        name="transformer_tiny",
        tokenizer=TokenizerConfig(),
        data=DataConfig(batch_tokens=512, max_source_length=48, max_target_length=48),
        model=TransformerConfig(
            vocabulary_size=307,
            hidden_dim=24,
            intermediate_dim=56,
            num_layers=2,
            num_heads=3,
            max_sequence_length=64,
        ),
        training=TrainingConfig(num_steps=40, checkpoint_steps=20, learning_rate=3e-3, warmup_steps=10),
        decoding=DecodingConfig(max_length=48, num_beams=4),
        evaluation=EvaluationConfig(),
    )


def mini() -> Recipe:
    """A translation model that trains in an hour or two on a laptop's processor, for some ten thousand sentence pairs.

    Paper: architecture of https://arxiv.org/abs/1706.03762 with pre-norm (https://arxiv.org/abs/2002.04745). So small a
        vocabulary keeps the output projection, which every target token pays for, at a quarter of the work.
    Command: tfzoo train --recipe=transformer_mini --run_dir=runs/mini --data=tsv:train.tsv
        --validation_data=tsv:validation.tsv
    Duration, score: 54 minutes on an x86-64 core, beside other work; BLEU 34.3 on the validation sentences of Multi30k
        (29,000 pairs to train on, English-German). That run was planned for 4,800 steps; see docs/translation.md.
    """
    return Recipe(
        name="transformer_mini",
        tokenizer=TokenizerConfig(),
        data=DataConfig(batch_tokens=2048, max_source_length=256, max_target_length=256),
        model=TransformerConfig(
            vocabulary_size=4000,
            hidden_dim=192,
            intermediate_dim=512,
            num_layers=3,
            num_heads=4,
            dropout=0.2,
            normalize_first=True,
        ),
        training=TrainingConfig(
            num_steps=2700, checkpoint_steps=300, learning_rate=2e-3, warmup_steps=400, schedule="cosine"
        ),
        decoding=DecodingConfig(max_length=256, num_beams=4),
        evaluation=EvaluationConfig(),
    )


def small() -> Recipe:
    """A translation model that trains on one machine, for a corpus of some hundred thousand sentence pairs.

    Paper: architecture of https://arxiv.org/abs/1706.03762, half the width and two thirds the depth of its base model.
    Command: tfzoo train --recipe=transformer_small --run_dir=runs/small --data=tsv:train.tsv
        --validation_data=tsv:validation.tsv
    Duration, score: not measured.
    """
    return Recipe(
        name="transformer_small",
        tokenizer=TokenizerConfig(),
        data=DataConfig(batch_tokens=4096, max_source_length=256, max_target_length=256),
        model=TransformerConfig(
            vocabulary_size=8000,
            hidden_dim=256,
            intermediate_dim=1024,
            num_layers=4,
            num_heads=4,
        ),
        training=TrainingConfig(
            num_steps=20_000, checkpoint_steps=1000, learning_rate=(256 * 4000) ** -0.5, warmup_steps=4000
        ),
        decoding=DecodingConfig(max_length=256, num_beams=4),
        evaluation=EvaluationConfig(),
    )


def base() -> Recipe:
    """The paper's base model.

    Paper: https://arxiv.org/abs/1706.03762, table 3, row "base" (it counts 65 million parameters); sections 5, 6.1.
    Command: tfzoo train --recipe=transformer_base --run_dir=runs/base --data=tsv:train.tsv
        --validation_data=tsv:validation.tsv
    Duration, score: not measured. The paper: 12 hours on 8 P100 GPUs, BLEU 25.8 on newstest2013 English-German.
    """
    return _vaswani_2017(
        name="transformer_base",
        hidden_dim=512,
        intermediate_dim=2048,
        num_heads=8,
        dropout=0.1,
        num_steps=100_000,
    )


def big() -> Recipe:
    """The paper's big model.

    Paper: https://arxiv.org/abs/1706.03762, table 3, row "big" (it counts 213 million parameters); sections 5, 6.1.
    Command: tfzoo train --recipe=transformer_big --run_dir=runs/big --data=tsv:train.tsv
        --validation_data=tsv:validation.tsv
    Duration, score: not measured. The paper: 3.5 days on 8 P100 GPUs, BLEU 26.4 on newstest2013 English-German.
    """
    return _vaswani_2017(
        name="transformer_big",
        hidden_dim=1024,
        intermediate_dim=4096,
        num_heads=16,
        dropout=0.3,
        num_steps=300_000,
    )


def _vaswani_2017(
    *, name: str, hidden_dim: int, intermediate_dim: int, num_heads: int, dropout: float, num_steps: int
) -> Recipe:
    """What both rows of table 3 share: 6 layers, 37000 subwords, 4000 steps of warm-up, batches of 25000 tokens."""
    return Recipe(
        name=name,
        tokenizer=TokenizerConfig(),
        data=DataConfig(batch_tokens=25_000, max_source_length=256, max_target_length=256),
        model=TransformerConfig(
            vocabulary_size=37_000,
            hidden_dim=hidden_dim,
            intermediate_dim=intermediate_dim,
            num_layers=6,
            num_heads=num_heads,
            dropout=dropout,
        ),
        training=TrainingConfig(
            num_steps=num_steps,
            checkpoint_steps=1000,
            learning_rate=(hidden_dim * 4000) ** -0.5,
            warmup_steps=4000,
            label_smoothing=0.1,
            clip_norm=0.0,
        ),
        decoding=DecodingConfig(max_length=256, num_beams=4, length_penalty=0.6),
        evaluation=EvaluationConfig(),
    )


def tiny_g2p() -> Recipe:
    """English spelling to pronunciation, in minutes on a laptop's processor: what `tfzoo quickstart` trains.

    Paper: architecture of https://arxiv.org/abs/1706.03762 with pre-norm (https://arxiv.org/abs/2002.04745); the task
        as in https://arxiv.org/abs/2004.06338 (CMUdict, 39 phonemes, stress left out).
    Command: tfzoo train --recipe=transformer_tiny_g2p --run_dir=runs/tiny_g2p
    Duration, score: 131 s on 2 x86-64 cores; 14.0 % phoneme, 51.5 % word error rate on sample:cmudict:test.
    """
    return _g2p(
        name="transformer_tiny_g2p",
        batch_tokens=4096,
        hidden_dim=128,
        num_layers=2,
        num_beams=1,
        training=TrainingConfig(
            num_steps=700,
            checkpoint_steps=175,
            learning_rate=2e-3,
            warmup_steps=100,
            schedule="cosine",
        ),
    )


def small_g2p() -> Recipe:
    """English spelling to pronunciation, trained for longer than `tiny_g2p` and with a wider model.

    Paper: as for `tiny_g2p`.
    Command: tfzoo train --recipe=transformer_small_g2p --run_dir=runs/small_g2p
    Duration, score: 81 minutes on an x86-64 core, beside other work; 7.6 % phoneme, 31.0 % word error rate on
        sample:cmudict:test. That run was planned for 9,000 steps until its step 1,856.
    """
    return _g2p(
        name="transformer_small_g2p",
        batch_tokens=2048,
        hidden_dim=192,
        num_layers=3,
        num_beams=4,
        training=TrainingConfig(
            num_steps=6000,  # 11 times all words
            checkpoint_steps=500,
            learning_rate=1e-3,
            warmup_steps=500,
            schedule="cosine",
        ),
    )


def _g2p(
    *, name: str, batch_tokens: int, hidden_dim: int, num_layers: int, num_beams: int, training: TrainingConfig
) -> Recipe:
    """What both pronunciation recipes share: letters in, phonemes out, each side with a vocabulary of its own."""
    return Recipe(
        name=name,
        tokenizer=TokenizerConfig(source="characters", target="symbols"),
        data=DataConfig(
            train=("sample:cmudict",),
            validation=("sample:cmudict:validation",),
            batch_tokens=batch_tokens,
            max_source_length=40,
            max_target_length=40,
        ),
        model=TransformerConfig(
            vocabulary_size=43,  # 39 phonemes and 4 special tokens
            source_vocabulary_size=33,  # 26 letters, apostrophe, hyphen, full stop and 4 special tokens
            hidden_dim=hidden_dim,
            intermediate_dim=4 * hidden_dim,
            num_layers=num_layers,
            num_heads=4,
            dropout=0.1,
            normalize_first=True,
            max_sequence_length=64,
        ),
        training=training,
        decoding=DecodingConfig(max_length=40, num_beams=num_beams),
        evaluation=EvaluationConfig(metrics=("token_error_rate", "word_error_rate")),
    )
