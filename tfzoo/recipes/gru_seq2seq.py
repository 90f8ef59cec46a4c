"""Recipes of the GRU encoder-decoder (Bahdanau et al., 2015, https://arxiv.org/abs/1409.0473; Luong et al., 2015).

`bahdanau` and `luong` have the sizes of models in the papers. They differ from these in what `tfzoo.models.gru_seq2seq`
lists, and in the training: Adam with a warm-up and a cosine to 0 stands for Adadelta and for plain gradient descent.
"""

from __future__ import annotations

from tfzoo.data.config import DataConfig
from tfzoo.decoding.config import DecodingConfig
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.models.config import GruSeq2SeqConfig
from tfzoo.recipes.recipe import Recipe
from tfzoo.text.config import TokenizerConfig
from tfzoo.training.config import TrainingConfig


def tiny() -> Recipe:
    """The smallest encoder-decoder with attention that still has every part twice: for tests and first tries.

    Paper: architecture of https://arxiv.org/abs/1409.0473 with two layers.
    Command: tfzoo train --recipe=gru_tiny --run_dir=runs/gru_tiny --data=tsv:pairs.tsv
    Duration, score: not measured.
    """
    return Recipe(
        name="gru_tiny",
        family="gru_seq2seq",
        tokenizer=TokenizerConfig(),
        data=DataConfig(batch_tokens=512, max_source_length=48, max_target_length=48),
        model=GruSeq2SeqConfig(
            vocabulary_size=307, embedding_dim=20, hidden_dim=24, num_layers=2, max_sequence_length=64
        ),
        training=TrainingConfig(num_steps=40, checkpoint_steps=20, learning_rate=3e-3, warmup_steps=10),
        decoding=DecodingConfig(max_length=48, num_beams=4),
        evaluation=EvaluationConfig(),
    )


def mini() -> Recipe:
    """A translation model that trains in an hour on a laptop's processor, for some ten thousand sentence pairs.

    Paper: architecture of https://arxiv.org/abs/1409.0473. docs/translation.md has the other attentions beside it.
    Command: tfzoo train --recipe=gru_mini --run_dir=runs/mini --data=tsv:train.tsv
        --validation_data=tsv:validation.tsv
    Duration, score: 53 minutes on an x86-64 core, beside other work; BLEU 36.7 on the validation sentences of Multi30k
        (29,000 pairs to train on, English-German).
    """
    return Recipe(
        name="gru_mini",
        family="gru_seq2seq",
        tokenizer=TokenizerConfig(),
        data=DataConfig(batch_tokens=1024, max_source_length=256, max_target_length=256),
        model=GruSeq2SeqConfig(
            vocabulary_size=4000,
            embedding_dim=192,
            hidden_dim=256,
            attention="additive",
            dropout=0.2,
        ),
        training=TrainingConfig(
            num_steps=7000, checkpoint_steps=500, learning_rate=4e-3, warmup_steps=200, schedule="cosine"
        ),
        decoding=DecodingConfig(max_length=256, num_beams=4),
        evaluation=EvaluationConfig(),
    )


def small() -> Recipe:
    """English spelling to pronunciation.

    Paper: architecture of https://arxiv.org/abs/1409.0473 with two layers; the task as in
        https://arxiv.org/abs/1506.00196 (CMUdict, 39 phonemes, stress left out).
    Command: tfzoo train --recipe=gru_small --run_dir=runs/gru_small
    Duration, score: 65 minutes on an x86-64 core, beside other work; 6.0 % phoneme, 25.8 % word error rate on
        sample:cmudict:test.
    """
    return Recipe(
        name="gru_small",
        family="gru_seq2seq",
        tokenizer=TokenizerConfig(source="characters", target="symbols"),
        data=DataConfig(
            train=("sample:cmudict",),
            validation=("sample:cmudict:validation",),
            batch_tokens=1024,
            max_source_length=40,
            max_target_length=40,
        ),
        model=GruSeq2SeqConfig(
            vocabulary_size=43,  # 39 phonemes and 4 special tokens
            source_vocabulary_size=33,  # 26 letters, apostrophe, hyphen, full stop and 4 special tokens
            embedding_dim=128,
            hidden_dim=256,
            num_layers=2,
            attention="additive",
            dropout=0.2,
            max_sequence_length=64,
        ),
        training=TrainingConfig(
            num_steps=9000,  # 8 times all words
            checkpoint_steps=300,
            learning_rate=3e-3,
            warmup_steps=200,
            schedule="cosine",
        ),
        decoding=DecodingConfig(max_length=40, num_beams=4),
        evaluation=EvaluationConfig(metrics=("token_error_rate", "word_error_rate")),
    )


def g2p_en() -> Recipe:
    """English spelling to pronunciation with stress: the network of the package g2p-en 2.1.0, which has its weights.

    Paper: architecture of https://arxiv.org/abs/1409.3215 with one GRU layer a side; g2p-en names none.
    Command: tfzoo convert --from=g2p_en --run_dir=runs/g2p_en
    Duration, score: trained elsewhere, on words that the test split of sample:cmudict_stress holds too, most likely.
    """
    return Recipe(
        name="g2p_en",
        family="gru_seq2seq",
        tokenizer=TokenizerConfig(source="characters", target="symbols"),
        data=DataConfig(
            train=("sample:cmudict_stress",),
            validation=("sample:cmudict_stress:validation",),
            batch_tokens=4096,
            max_source_length=40,
            max_target_length=40,
        ),
        model=GruSeq2SeqConfig(
            vocabulary_size=74,  # 70 phonemes and 4 special tokens
            source_vocabulary_size=30,  # 26 letters and 4 special tokens
            embedding_dim=256,
            hidden_dim=256,
            bidirectional=False,
            attention="none",
            input_feeding=False,
            max_sequence_length=64,
        ),
        training=TrainingConfig(
            num_steps=2000, checkpoint_steps=200, learning_rate=3e-4, warmup_steps=200, schedule="cosine"
        ),
        decoding=DecodingConfig(max_length=20, num_beams=1),
        evaluation=EvaluationConfig(metrics=("token_error_rate", "word_error_rate")),
    )


def bahdanau() -> Recipe:
    """The paper's RNNsearch-50, for English-French by words.

    Paper: https://arxiv.org/abs/1409.0473, sections 3 and 4.2, appendices A.2.3 and B.2: 30,000 words a side, sentences
        of up to 50 words, batches of 80 sentences.
    Command: tfzoo train --recipe=bahdanau --run_dir=runs/bahdanau --data=tsv:train.tsv
        --validation_data=tsv:validation.tsv
    Duration, score: not measured. The paper: 111 hours on a Quadro K6000, BLEU 26.75 on newstest2014.
    """
    return Recipe(
        name="bahdanau",
        family="gru_seq2seq",
        tokenizer=TokenizerConfig(source="symbols", target="symbols"),
        data=DataConfig(batch_size=80, max_source_length=51, max_target_length=51),  # with the end token
        model=GruSeq2SeqConfig(
            vocabulary_size=30_000,
            source_vocabulary_size=30_000,
            embedding_dim=620,
            hidden_dim=1000,
            attention="additive",
        ),
        training=TrainingConfig(
            num_steps=288_000,  # updates in table 2
            checkpoint_steps=2000,
            learning_rate=5e-4,
            warmup_steps=2000,
            schedule="cosine",
            label_smoothing=0.0,
        ),
        decoding=DecodingConfig(max_length=100, num_beams=10, length_penalty=0.0),
        evaluation=EvaluationConfig(),
    )


def luong() -> Recipe:
    """A model of the paper with global attention and input feeding, for English-German by words.

    Paper: https://arxiv.org/abs/1508.04025, section 4.1: 50,000 words a side, 4 layers of 1000 units, sentences of up
        to 50 words, batches of 128, dropout 0.2, 12 epochs of 4.5 million pairs. The paper also reverses the source,
        and its best score has the "general" product in a local window; here it looks at the whole source.
    Command: tfzoo train --recipe=luong --run_dir=runs/luong --data=tsv:train.tsv
        --validation_data=tsv:validation.tsv
    Duration, score: not measured. The paper: 7 to 10 days on a Tesla K40; BLEU 18.1 on newstest2014 with global
        attention by "location" and input feeding, before unknown words are replaced.
    """
    epoch_steps = 35_156  # 4.5 million pairs in batches of 128
    return Recipe(
        name="luong",
        family="gru_seq2seq",
        tokenizer=TokenizerConfig(source="symbols", target="symbols"),
        data=DataConfig(batch_size=128, max_source_length=51, max_target_length=51),  # with the end token
        model=GruSeq2SeqConfig(
            vocabulary_size=50_000,
            source_vocabulary_size=50_000,
            embedding_dim=1000,
            hidden_dim=1000,
            num_layers=4,
            bidirectional=False,
            attention="multiplicative",
            dropout=0.2,
        ),
        training=TrainingConfig(
            num_steps=12 * epoch_steps,
            checkpoint_steps=2000,
            learning_rate=5e-4,
            warmup_steps=2000,
            schedule="cosine",
            label_smoothing=0.0,
            clip_norm=5.0,
        ),
        decoding=DecodingConfig(max_length=100, num_beams=10, length_penalty=0.0),
        evaluation=EvaluationConfig(),
    )
