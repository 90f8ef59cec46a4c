"""Model configurations: the numbers that define each architecture, readable without TensorFlow."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal, get_args

from tfzoo.errors import RecipeError, nearest


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """The encoder-decoder Transformer (Vaswani et al., 2017, table 3 names the sizes).

    Args:
        vocabulary_size: V, target token ids; the output projection is tied to this embedding.
        source_vocabulary_size: source token ids; None shares one vocabulary and one embedding for both sides.
        hidden_dim: D, width of the residual stream.
        intermediate_dim: F, width of the feed-forward layer.
        num_layers: encoder blocks, and as many decoder blocks.
        num_heads: H; must divide `hidden_dim`.
        dropout: probability in [0, 1), on embeddings, attention weights and each sublayer's output.
        normalize_first: False = post-norm (the paper), True = pre-norm with a final normalization.
        activation: between the two layers of the feed-forward, "relu" (the paper), "gelu" or "swish".
        layer_norm_epsilon: added to the variance in each normalization.
        positions: "sinusoidal" (the paper, section 3.5), "sinusoidal_halves" (the same numbers, all sines before all
            cosines) or "learned".
        scale_embeddings: whether embedded tokens are multiplied by sqrt(D) (section 3.4).
        logits_bias: whether each target token has a bias that is added to its logit.
        max_sequence_length: longest source or target, in tokens.
        pad_id: token id of padding; source padding is masked.
        start_id: token id that the decoder starts from; where it is padding too, it is never generated.
        end_id: token id that ends a sequence.

    Raises:
        RecipeError: a number is out of its range, or an unknown name.
    """

    task: ClassVar[str] = "seq2seq"

    vocabulary_size: int
    source_vocabulary_size: int | None = None
    hidden_dim: int
    intermediate_dim: int
    num_layers: int
    num_heads: int
    dropout: float = 0.1
    normalize_first: bool = False
    activation: Literal["relu", "gelu", "swish"] = "relu"
    layer_norm_epsilon: float = 1e-6
    positions: Literal["sinusoidal", "sinusoidal_halves", "learned"] = "sinusoidal"
    scale_embeddings: bool = True
    logits_bias: bool = False
    max_sequence_length: int = 512
    pad_id: int = 0
    start_id: int = 2
    end_id: int = 3

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_source_vocabulary(self)
        _check_heads(self)
        if self.hidden_dim % 2:
            raise RecipeError(f"`hidden_dim` must be even; received hidden_dim={self.hidden_dim}.")
        _check_probabilities(self, "dropout")
        _check_epsilon(self)
        for name, known in (
            ("activation", ("relu", "gelu", "swish")),
            ("positions", ("sinusoidal", "sinusoidal_halves", "learned")),
        ):
            value = getattr(self, name)
            if value not in known:
                raise RecipeError(
                    f"`{name}` must be one of {', '.join(known)}; received {name}={value!r}.{nearest(value, known)}"
                )
        _check_special_ids(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GruSeq2SeqConfig:
    """The GRU encoder-decoder (Cho et al., 2014; Bahdanau et al., 2015; Luong et al., 2015).

    Args:
        vocabulary_size: V, target token ids.
        source_vocabulary_size: source token ids; None shares one vocabulary and one embedding for both sides.
        embedding_dim: E, width of the token embeddings.
        hidden_dim: D, width of each GRU's state in one direction, and of what attention compares; even.
        num_layers: encoder layers, and as many decoder layers.
        bidirectional: whether each encoder layer reads the source in both directions.
        attention: "additive" (Bahdanau et al.), "multiplicative" (Luong et al.) or "none".
        input_feeding: whether the decoder reads with each token what it knows of the source. With "multiplicative" that
            is the attentional vector of the token before (Luong et al., section 3.3), with "none" the encoder's last
            state (Cho et al.; False = Sutskever et al., 2014). "additive" needs it.
        dropout: probability in [0, 1), on embedded tokens, each layer's output and what the output projection reads,
            never on what is carried from token to token.
        max_sequence_length: longest source or target, in tokens.
        pad_id: token id of padding; source padding is skipped.
        start_id: token id that the decoder starts from.
        end_id: token id that ends a sequence.

    Raises:
        RecipeError: a number is out of its range.
    """

    task: ClassVar[str] = "seq2seq"

    vocabulary_size: int
    source_vocabulary_size: int | None = None
    embedding_dim: int
    hidden_dim: int
    num_layers: int = 1
    bidirectional: bool = True
    attention: Literal["additive", "multiplicative", "none"] = "additive"
    input_feeding: bool = True
    dropout: float = 0.0
    max_sequence_length: int = 512
    pad_id: int = 0
    start_id: int = 2
    end_id: int = 3

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_source_vocabulary(self)
        if self.hidden_dim % 2:
            raise RecipeError(f"`hidden_dim` must be even; received hidden_dim={self.hidden_dim}.")
        known = ("additive", "multiplicative", "none")
        if self.attention not in known:
            raise RecipeError(
                f"`attention` knows {', '.join(known)}; received attention={self.attention!r}."
                f"{nearest(self.attention, known)}"
            )
        if self.attention == "additive" and not self.input_feeding:
            raise RecipeError(
                "`input_feeding` must be true with attention='additive', whose decoder reads the context; received "
                "input_feeding=False. Use attention='multiplicative' for a decoder that does not."
            )
        _check_probabilities(self, "dropout")
        _check_special_ids(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LstmLmConfig:
    """The LSTM language model (Zaremba et al., 2014; Merity et al., 2017).

    Args:
        vocabulary_size: V, token ids.
        embedding_dim: E, width of the token embedding.
        hidden_dim: D, width of each LSTM layer; with `tie_embeddings` the last layer is E wide.
        num_layers: LSTM layers.
        dropout: probability in [0, 1), on the embedded tokens and on each layer's output, never on what is carried
            from token to token (Zaremba et al., 2014, section 3.1).
        locked_dropout: True = one dropout mask for all tokens of a sequence (Merity et al., 2017, section 4.2).
        embedding_dropout: probability in [0, 1) that a word's whole embedding is 0 (section 4.3).
        weight_drop: probability in [0, 1) that a recurrent weight is 0, the same for all tokens (section 2).
        tie_embeddings: True = the output projection is the transposed embedding (section 4.5).
        max_sequence_length: longest sequence in one call, in tokens; carried state goes on beyond it.
        pad_id: token id of padding.
        start_id: token id before the first token of a text.
        end_id: token id behind the last token of a text.

    Raises:
        RecipeError: a number is out of its range.
    """

    task: ClassVar[str] = "causal_lm"

    vocabulary_size: int
    embedding_dim: int
    hidden_dim: int
    num_layers: int
    dropout: float = 0.0
    locked_dropout: bool = False
    embedding_dropout: float = 0.0
    weight_drop: float = 0.0
    tie_embeddings: bool = True
    max_sequence_length: int = 1024
    pad_id: int = 0
    start_id: int = 0
    end_id: int = 0

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_probabilities(self, "dropout", "embedding_dropout", "weight_drop")
        _check_special_ids(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPT2Config:
    """GPT-2 (Radford et al., 2019, table 2 names the sizes).

    Args:
        vocabulary_size: V, token ids; the output projection is tied to the embedding.
        hidden_dim: D, width of the residual stream.
        intermediate_dim: F, width of the feed-forward layer; 4 D in the paper.
        num_layers: blocks.
        num_heads: H; must divide `hidden_dim`.
        dropout: probability in [0, 1), on the embeddings, attention weights and each sublayer's output.
        layer_norm_epsilon: added to the variance in each normalization.
        max_sequence_length: positions, in tokens.
        pad_id: token id of padding.
        start_id: token id before the first token of a text.
        end_id: token id behind the last token of a text.

    Raises:
        RecipeError: a number is out of its range.
    """

    task: ClassVar[str] = "causal_lm"

    vocabulary_size: int = 50257
    hidden_dim: int
    intermediate_dim: int
    num_layers: int
    num_heads: int
    dropout: float = 0.1
    layer_norm_epsilon: float = 1e-5
    max_sequence_length: int = 1024
    pad_id: int = 50256
    start_id: int = 50256
    end_id: int = 50256

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_heads(self)
        _check_probabilities(self, "dropout")
        _check_epsilon(self)
        _check_special_ids(self)


BertTask = Literal["fill_mask", "text_classification", "token_classification", "question_answering", "text_embedding"]
Problem = Literal["single_label", "multi_label", "regression"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BertConfig:
    """BERT (Devlin et al., 2019, section 3; Turc et al., 2019, table 1 names the small sizes), with the head of a task.

    Args:
        task: what the head is for: "fill_mask" (masked tokens, section 3.1), "text_classification",
            "token_classification" (a label for each word), "question_answering" (a span of the second text) or
            "text_embedding" (a vector of length 1: the mean of the last hidden states).
        vocabulary_size: V, token ids.
        hidden_dim: D, width of the residual stream.
        intermediate_dim: F, width of the feed-forward layer.
        num_layers: encoder blocks.
        num_heads: H; must divide `hidden_dim`.
        dropout: probability in [0, 1), on the embeddings, attention weights and each sublayer's output, and before
            the head of a classifier.
        layer_norm_epsilon: added to the variance in each normalization.
        max_sequence_length: positions, in tokens.
        num_texts: texts in an input: 1, or 2, which are told apart as segments 0 and 1.
        labels: names of the classes, by the index of their logit; training reads them off its data.
        problem: of a text classifier, "single_label", "multi_label" (any number of labels at once) or "regression" (one
            number, no labels).
        next_sentence: whether a "fill_mask" head also tells whether the second text follows the first (section 3.1).
        pad_id: token id of padding.
        start_id: token id of [CLS], which begins each input.
        end_id: token id of [SEP], which ends each text.
        mask_id: token id of [MASK].

    Raises:
        RecipeError: a number is out of its range, an unknown name, or two fields contradict each other.
    """

    task: BertTask = "fill_mask"
    vocabulary_size: int = 30522
    hidden_dim: int
    intermediate_dim: int
    num_layers: int
    num_heads: int
    dropout: float = 0.1
    layer_norm_epsilon: float = 1e-12
    max_sequence_length: int = 512
    num_texts: int = 1
    labels: tuple[str, ...] = ()
    problem: Problem = "single_label"
    next_sentence: bool = False
    pad_id: int = 0
    start_id: int = 101
    end_id: int = 102
    mask_id: int = 103

    def __post_init__(self) -> None:
        _check_counts(self)
        _check_heads(self)
        _check_probabilities(self, "dropout")
        _check_epsilon(self)
        _check_special_ids(self, "mask_id")
        for name, kind in (("task", BertTask), ("problem", Problem)):
            value = getattr(self, name)
            if value not in get_args(kind):
                known = get_args(kind)
                raise RecipeError(
                    f"`{name}` knows {', '.join(known)}; received {name}={value!r}.{nearest(value, known)}"
                )
        if self.num_texts not in (1, 2):
            raise RecipeError(f"`num_texts` must be 1 or 2; received num_texts={self.num_texts}.")
        expected = {"question_answering": (2,), "text_classification": (1, 2)}.get(self.task, (1,))
        if self.next_sentence:
            expected = (2,)
        if self.num_texts not in expected:
            raise RecipeError(
                f"`num_texts` must be {' or '.join(map(str, expected))} for task={self.task!r}, "
                f"next_sentence={self.next_sentence}; received num_texts={self.num_texts}."
            )
        if self.next_sentence and self.task != "fill_mask":
            raise RecipeError(f"`next_sentence` is part of the task 'fill_mask'; received task={self.task!r}.")
        if self.problem != "single_label" and self.task != "text_classification":
            raise RecipeError(f"`problem` {self.problem!r} is one of text classification; received task={self.task!r}.")
        if self.labels and not self.is_labelled:
            raise RecipeError(
                f"`labels` must be empty for task={self.task!r}, problem={self.problem!r}; received {self.labels!r}."
            )
        if len(set(self.labels)) < len(self.labels) or "" in self.labels:
            raise RecipeError(f"`labels` must be distinct and not empty; received {self.labels!r}.")

    @property
    def is_labelled(self) -> bool:
        """Whether each logit is the score of one of `labels`."""
        return self.task == "token_classification" or (
            self.task == "text_classification" and self.problem != "regression"
        )


ModelConfig = TransformerConfig | GruSeq2SeqConfig | LstmLmConfig | GPT2Config | BertConfig


def _check_counts(config: ModelConfig) -> None:
    """Every whole number that has no other meaning, such as a token id or an option, counts something."""
    for name in (
        "vocabulary_size",
        "embedding_dim",
        "hidden_dim",
        "intermediate_dim",
        "num_layers",
        "num_heads",
        "max_sequence_length",
    ):
        if hasattr(config, name) and getattr(config, name) < 1:
            raise RecipeError(f"`{name}` must be at least 1; received {name}={getattr(config, name)}.")


def _check_source_vocabulary(config: TransformerConfig | GruSeq2SeqConfig) -> None:
    if config.source_vocabulary_size is not None and config.source_vocabulary_size < 1:
        raise RecipeError(
            "`source_vocabulary_size` must be at least 1 or None; received "
            f"source_vocabulary_size={config.source_vocabulary_size}."
        )


def _check_heads(config: TransformerConfig | GPT2Config | BertConfig) -> None:
    if config.hidden_dim % config.num_heads:
        raise RecipeError(
            "`num_heads` must divide `hidden_dim`; received "
            f"num_heads={config.num_heads}, hidden_dim={config.hidden_dim}."
        )


def _check_probabilities(config: ModelConfig, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise RecipeError(f"`{name}` must be in [0, 1); received {name}={getattr(config, name)}.")


def _check_epsilon(config: TransformerConfig | GPT2Config | BertConfig) -> None:
    if not 0 < config.layer_norm_epsilon < 1:
        raise RecipeError(
            f"`layer_norm_epsilon` must be in (0, 1); received layer_norm_epsilon={config.layer_norm_epsilon}."
        )


def _check_special_ids(config: ModelConfig, *others: str) -> None:
    for name in ("pad_id", "start_id", "end_id", *others):
        if not 0 <= getattr(config, name) < config.vocabulary_size:
            raise RecipeError(
                f"`{name}` must be in [0, vocabulary_size); received {name}={getattr(config, name)}, "
                f"vocabulary_size={config.vocabulary_size}."
            )
