"""Recipes of the LSTM language model.

`zaremba_medium` and `zaremba_large` are the models of Zaremba et al., 2014 (https://arxiv.org/abs/1409.2329, section
4.1), `awd_lstm` is that of Merity et al., 2017 (https://arxiv.org/abs/1708.02182, section 5). Sizes, dropout, length of
sequence and batch are theirs. All three differ from the papers in how they train: by AdamW with a cosine decay to 0,
where Zaremba et al. use SGD with a rate of 1 that is divided by a constant each epoch after the first 6 or 14, and
Merity et al. use SGD and then its average (NT-ASGD) with a rate of 30; in how weights begin, as Keras' LSTM does; and
in the vocabulary, which holds this library's 4 special tokens among its ids.
"""

from __future__ import annotations

from tfzoo.data.config import CausalLmDataConfig
from tfzoo.decoding.config import DecodingConfig
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.models.config import LstmLmConfig
from tfzoo.recipes.recipe import Recipe
from tfzoo.text.config import TokenizerConfig
from tfzoo.training.config import TrainingConfig


def tiny() -> Recipe:
    """The smallest LSTM language model that still has every part twice: for tests and first tries.

    Paper: architecture of https://arxiv.org/abs/1409.2329 with a tied output projection, not a model of it.
    Command: tfzoo train --recipe=lstm_lm_tiny --run_dir=runs/tiny --data=text:train.txt
    Duration, score: not measured.
    """
    return Recipe(
        name="lstm_lm_tiny",
        family="lstm_lm",
        tokenizer=TokenizerConfig(source="byte_pair"),
        data=CausalLmDataConfig(examples="contiguous", sequence_length=32, batch_size=16),
        model=LstmLmConfig(
            vocabulary_size=307,
            embedding_dim=24,
            hidden_dim=40,
            num_layers=2,
            dropout=0.1,
            max_sequence_length=64,
            pad_id=306,
            start_id=306,
            end_id=306,
        ),
        training=TrainingConfig(
            num_steps=40,
            checkpoint_steps=20,
            learning_rate=1e-2,
            warmup_steps=10,
            schedule="cosine",
            label_smoothing=0.0,
        ),
        decoding=DecodingConfig(max_length=32),
        evaluation=EvaluationConfig(metrics=()),
    )


def docs() -> Recipe:
    """Trains in an hour or two on two cores, on the prose that every Python carries (`sample:python_docs`).

    Paper: architecture of https://arxiv.org/abs/1708.02182 without weight drop, smaller, for byte pairs.
    Command: tfzoo train --recipe=lstm_lm_docs --run_dir=runs/lstm_docs
    Duration, score: 82 minutes on two cores (x86-64, no GPU) beside other work; perplexity 85.8 by token and 4,992 by
        word, 1.883 bits by byte on `sample:python_docs:test` of CPython 3.11.7.
    """
    last_id = 4095
    return Recipe(
        name="lstm_lm_docs",
        family="lstm_lm",
        tokenizer=TokenizerConfig(source="byte_pair"),
        data=CausalLmDataConfig(
            train=("sample:python_docs:train",),
            validation=("sample:python_docs:validation",),
            examples="contiguous",
            sequence_length=64,
            batch_size=16,
        ),
        model=LstmLmConfig(
            vocabulary_size=last_id + 1,
            embedding_dim=256,
            hidden_dim=384,
            num_layers=2,
            dropout=0.4,
            locked_dropout=True,
            embedding_dropout=0.1,
            max_sequence_length=512,
            pad_id=last_id,
            start_id=last_id,
            end_id=last_id,
        ),
        training=TrainingConfig(
            num_steps=9800,
            checkpoint_steps=490,
            learning_rate=2e-3,
            warmup_steps=100,
            schedule="cosine",
            label_smoothing=0.0,
            weight_decay=0.01,
        ),
        decoding=DecodingConfig(max_length=64, temperature=0.7, top_p=0.9),
        evaluation=EvaluationConfig(metrics=()),
    )


def zaremba_medium() -> Recipe:
    """The paper's medium regularized LSTM, for Penn Treebank by words.

    Paper: https://arxiv.org/abs/1409.2329, section 4.1; 39 epochs of 1,327 batches.
    Command: tfzoo train --recipe=zaremba_medium --run_dir=runs/zaremba_medium --data=text:ptb.train.txt
        --validation_data=text:ptb.valid.txt
    Duration, score: not measured. The paper: half a day on a K20 GPU, perplexity 86.2 in validation and 82.7 in test.
    """
    return _zaremba_2014(name="zaremba_medium", width=650, dropout=0.5, num_epochs=39)


def zaremba_large() -> Recipe:
    """The paper's large regularized LSTM, for Penn Treebank by words.

    Paper: https://arxiv.org/abs/1409.2329, section 4.1; 55 epochs of 1,327 batches.
    Command: tfzoo train --recipe=zaremba_large --run_dir=runs/zaremba_large --data=text:ptb.train.txt
        --validation_data=text:ptb.valid.txt
    Duration, score: not measured. The paper: a day on a K20 GPU, perplexity 82.2 in validation and 78.4 in test.
    """
    return _zaremba_2014(name="zaremba_large", width=1500, dropout=0.65, num_epochs=55)


def _zaremba_2014(*, name: str, width: int, dropout: float, num_epochs: int) -> Recipe:
    """What both models share: 2 layers, 10,000 words, 35 tokens of 20 streams a batch, an untied output projection."""
    epoch_steps = 1327  # 929,000 words in batches of 700
    return Recipe(
        name=name,
        family="lstm_lm",
        tokenizer=TokenizerConfig(source="symbols"),
        data=CausalLmDataConfig(examples="contiguous", sequence_length=35, batch_size=20),
        model=LstmLmConfig(
            vocabulary_size=10_000,
            embedding_dim=width,
            hidden_dim=width,
            num_layers=2,
            dropout=dropout,
            tie_embeddings=False,
            start_id=2,
            end_id=3,
        ),
        training=TrainingConfig(
            num_steps=num_epochs * epoch_steps,
            checkpoint_steps=epoch_steps,
            learning_rate=1e-3,
            warmup_steps=epoch_steps,
            schedule="cosine",
            label_smoothing=0.0,
        ),
        decoding=DecodingConfig(max_length=256),
        evaluation=EvaluationConfig(metrics=()),
    )


def awd_lstm() -> Recipe:
    """AWD-LSTM, for WikiText-2 by words.

    Paper: https://arxiv.org/abs/1708.02182, section 5, and table 2 (it counts 33 million parameters). Besides the
        training: one probability stands for dropout on words, between layers and on the output (the paper has 0.4, 0.3
        and 0.4), every batch is 70 tokens long (the paper varies the length), activations are not regularized (section
        4.6), and 200 epochs are trained instead of 750.
    Command: tfzoo train --recipe=awd_lstm --run_dir=runs/awd_lstm --data=text:wiki.train.tokens
        --validation_data=text:wiki.valid.tokens
    Duration, score: not measured. The paper: perplexity 68.6 in validation and 65.8 in test.
    """
    epoch_steps = 373  # 2,089,000 words in batches of 5600
    return Recipe(
        name="awd_lstm",
        family="lstm_lm",
        tokenizer=TokenizerConfig(source="symbols"),
        data=CausalLmDataConfig(examples="contiguous", sequence_length=70, batch_size=80),
        model=LstmLmConfig(
            vocabulary_size=33_278,
            embedding_dim=400,
            hidden_dim=1150,
            num_layers=3,
            dropout=0.4,
            locked_dropout=True,
            embedding_dropout=0.1,
            weight_drop=0.5,
            start_id=2,
            end_id=3,
        ),
        training=TrainingConfig(
            num_steps=200 * epoch_steps,
            checkpoint_steps=epoch_steps,
            learning_rate=1e-3,
            warmup_steps=epoch_steps,
            schedule="cosine",
            label_smoothing=0.0,
            clip_norm=0.25,
            weight_decay=1.2e-6,
        ),
        decoding=DecodingConfig(max_length=256),
        evaluation=EvaluationConfig(metrics=()),
    )
