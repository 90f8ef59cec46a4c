"""Data specifications to records, examples and batches."""

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach(
    __name__,
    submod_attrs={
        "cleaning": ["clean"],
        "config": [
            "CausalLmDataConfig",
            "ClassificationDataConfig",
            "DataConfig",
            "EncoderDataConfig",
            "MaskedLmDataConfig",
            "QuestionAnsweringDataConfig",
        ],
        "examples": ["encode_masked", "encode_segments", "encode_source", "encode_words", "seq2seq_example"],
        "labelled": ["read_labelled", "read_words", "text_labels", "word_labels"],
        "labelled_texts": ["classification"],
        "labelled_words": ["token_classification"],
        "language": ["causal_lm", "causal_lm_windows"],
        "masked": ["masked_lm"],
        "pairs": ["text_pairs"],
        "pipeline": ["seq2seq"],
        "prompts": ["prompt_answer"],
        "questions": ["question_answering"],
        "sources": ["read"],
    },
)
