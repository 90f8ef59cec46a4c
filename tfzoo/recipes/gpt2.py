"""Recipes of GPT-2 (Radford et al., 2019, "Language Models are Unsupervised Multitask Learners").

`small` to `xl` are rows of the paper's table 2, with the vocabulary of 50,257 ids, the 1024 positions and the batch of
512 rows of section 2.3; the number of heads is that of the models that its authors published. Optimizer and length of
training, which the paper does not state, are those of Brown et al. (2020, https://arxiv.org/abs/2005.14165, table 2.1
and appendix B): the learning rate of the nearest size, warm-up over 375 million tokens, 300 billion tokens in all. They
differ in one way: the learning rate falls to 0 at the last step, not to a tenth after 260 billion tokens.
"""

from __future__ import annotations

from tfzoo.data.config import CausalLmDataConfig
from tfzoo.decoding.config import DecodingConfig
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.models.config import GPT2Config
from tfzoo.recipes.recipe import Recipe
from tfzoo.text.config import TokenizerConfig
from tfzoo.training.config import TrainingConfig

_BATCH_SIZE, _POSITIONS = 512, 1024  # rows and tokens; section 2.3


def tiny() -> Recipe:
    """The smallest GPT-2 that still has every part twice: for tests and first tries.

    Paper: architecture of Radford et al. (2019), not a row of its table 2.
    Command: tfzoo train --recipe=gpt2_tiny --run_dir=runs/tiny --data=text:train.txt
    Duration, score: not measured.
    """
    return Recipe(
        name="gpt2_tiny",
        family="gpt2",
        tokenizer=TokenizerConfig(source="byte_pair"),
        data=CausalLmDataConfig(sequence_length=32, batch_size=16),
        model=GPT2Config(
            vocabulary_size=307,
            hidden_dim=24,
            intermediate_dim=96,
            num_layers=2,
            num_heads=3,
            max_sequence_length=64,
            pad_id=306,
            start_id=306,
            end_id=306,
        ),
        training=TrainingConfig(
            num_steps=40,
            checkpoint_steps=20,
            learning_rate=3e-3,
            warmup_steps=10,
            schedule="cosine",
            label_smoothing=0.0,
        ),
        decoding=DecodingConfig(max_length=32),
        evaluation=EvaluationConfig(metrics=()),
    )


def docs() -> Recipe:
    """Trains in an hour or two on two cores, on the prose that every Python carries (`sample:python_docs`).

    Paper: architecture of Radford et al. (2019), not a row of its table 2.
    Command: tfzoo train --recipe=gpt2_docs --run_dir=runs/gpt2_docs
    Duration, score: 53 minutes on two cores (x86-64, no GPU) beside other work; perplexity 83.3 by token and 4,712 by
        word, 1.870 bits by byte on `sample:python_docs:test` of CPython 3.11.7.
    """
    last_id = 4095
    return Recipe(
        name="gpt2_docs",
        family="gpt2",
        tokenizer=TokenizerConfig(source="byte_pair"),
        data=CausalLmDataConfig(
            train=("sample:python_docs:train",),
            validation=("sample:python_docs:validation",),
            sequence_length=128,
            batch_size=8,
        ),
        model=GPT2Config(
            vocabulary_size=last_id + 1,
            hidden_dim=192,
            intermediate_dim=768,
            num_layers=4,
            num_heads=6,
            dropout=0.25,
            max_sequence_length=256,
            pad_id=last_id,
            start_id=last_id,
            end_id=last_id,
        ),
        training=TrainingConfig(
            num_steps=7320,
            checkpoint_steps=488,
            learning_rate=1e-3,
            warmup_steps=300,
            schedule="cosine",
            label_smoothing=0.0,
            weight_decay=0.01,
        ),
        decoding=DecodingConfig(max_length=64, temperature=0.7, top_p=0.9),
        evaluation=EvaluationConfig(metrics=()),
    )


def small() -> Recipe:
    """The paper's smallest model.

    Paper: Radford et al. (2019), table 2, row 1 (it counts 117 million parameters; there are 124 million).
    Command: tfzoo train --recipe=gpt2_small --run_dir=runs/small --data=jsonl:webtext/*.jsonl
        --validation_data=jsonl:validation.jsonl
    Duration, score: not measured.
    """
    return _radford_2019(name="gpt2_small", hidden_dim=768, num_layers=12, num_heads=12, learning_rate=6e-4)


def medium() -> Recipe:
    """The paper's second model.

    Paper: Radford et al. (2019), table 2, row 2 (it counts 345 million parameters; there are 355 million).
    Command: tfzoo train --recipe=gpt2_medium --run_dir=runs/medium --data=jsonl:webtext/*.jsonl
        --validation_data=jsonl:validation.jsonl
    Duration, score: not measured.
    """
    return _radford_2019(name="gpt2_medium", hidden_dim=1024, num_layers=24, num_heads=16, learning_rate=3e-4)


def large() -> Recipe:
    """The paper's third model.

    Paper: Radford et al. (2019), table 2, row 3 (it counts 762 million parameters; there are 774 million).
    Command: tfzoo train --recipe=gpt2_large --run_dir=runs/large --data=jsonl:webtext/*.jsonl
        --validation_data=jsonl:validation.jsonl
    Duration, score: not measured.
    """
    return _radford_2019(name="gpt2_large", hidden_dim=1280, num_layers=36, num_heads=20, learning_rate=2.5e-4)


def xl() -> Recipe:
    """The paper's largest model, the one that it calls GPT-2.

    Paper: Radford et al. (2019), table 2, row 4 (it counts 1542 million parameters; there are 1558 million).
    Command: tfzoo train --recipe=gpt2_xl --run_dir=runs/xl --data=jsonl:webtext/*.jsonl
        --validation_data=jsonl:validation.jsonl
    Duration, score: not measured.
    """
    return _radford_2019(name="gpt2_xl", hidden_dim=1600, num_layers=48, num_heads=25, learning_rate=2e-4)


def _radford_2019(*, name: str, hidden_dim: int, num_layers: int, num_heads: int, learning_rate: float) -> Recipe:
    """What the four models share."""
    tokens_per_step = _BATCH_SIZE * _POSITIONS
    return Recipe(
        name=name,
        family="gpt2",
        tokenizer=TokenizerConfig(source="byte_pair"),
        data=CausalLmDataConfig(sequence_length=_POSITIONS, batch_size=_BATCH_SIZE),
        model=GPT2Config(
            hidden_dim=hidden_dim,
            intermediate_dim=4 * hidden_dim,
            num_layers=num_layers,
            num_heads=num_heads,
            max_sequence_length=_POSITIONS,
        ),
        training=TrainingConfig(
            num_steps=300 * 10**9 // tokens_per_step,
            checkpoint_steps=5000,
            learning_rate=learning_rate,
            warmup_steps=375 * 10**6 // tokens_per_step,
            schedule="cosine",
            label_smoothing=0.0,
            beta_2=0.95,
            epsilon=1e-8,
            weight_decay=0.1,
        ),
        # What the authors' code advises for samples.
        decoding=DecodingConfig(max_length=256, temperature=1.0, top_k=40),
        evaluation=EvaluationConfig(metrics=()),
    )
