"""Small Marian tokenizers, made as OPUS-MT makes them: two SentencePiece models over one vocabulary, or over two."""

import io

import sentencepiece

from tfzoo.text import MarianTokenizer, TokenizerPair

ENGLISH = [
    "A dog runs over the green field and looks around; ooo, how nice!",
    "The quick brown fox jumps over the lazy dog 0123456789.",
    "Where is the station? Over there, beside the café. ½",
] * 5
GERMAN = [
    "Ein Hund läuft über die grüne Wiese und sieht sich um; ooo, wie schön!",
    "Zwei Hunde laufen über die Wiese, 0123456789.",
    "Wo ist der Bahnhof? Dort drüben, neben dem Café. ½",
] * 5
CODES = (">>de<<", ">>zh_TW<<")


def train_model(sentences, vocab_size=90, **options):
    """A SentencePiece model with SentencePiece's own ids, <unk>, <s>, </s>."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"vocab_size": vocab_size, **options},
    )
    return model.getvalue()


def pieces(model):
    """The pieces of a model that it may cut off."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size()) if not processor.is_control(i)]


def vocabulary(*models, codes=CODES, left_out=()):
    """One vocabulary of all models' pieces: </s> and <unk> first, padding last, as converters write it."""
    found = dict.fromkeys(piece for model in models for piece in pieces(model))
    texts = [piece for piece in found if piece not in ("<unk>", *left_out)]
    return {piece: one for one, piece in enumerate(["</s>", "<unk>", *codes, *sorted(texts, reverse=True), "<pad>"])}


def one_side(sentences):
    """A source's tokenizer; the vocabulary lacks a piece of the model, and has one that the model lacks."""
    model = train_model(sentences, 150)
    vocabulary_of_it = vocabulary(model, left_out=["▁Việt"])
    return MarianTokenizer(model, vocabulary_of_it | {"Ξ": len(vocabulary_of_it)}, "source")


def tokenizers(*, separate=False, left_out=("▁the", "▁Wiese")):
    """A pair; the vocabulary lacks two pieces of the models."""
    source, target = train_model(ENGLISH), train_model(GERMAN)
    if not separate:
        one = vocabulary(source, target, left_out=left_out)
        return TokenizerPair(MarianTokenizer(source, one, "source"), MarianTokenizer(target, one, "target"))
    sides = {"source": vocabulary(source), "target": vocabulary(target)}
    for one in sides.values():  # padding has one id on both sides
        while len(one) < 120:
            one[f"filler {len(one)}"] = len(one)
    for one in sides.values():
        last = max(one, key=one.__getitem__)
        one["<pad>"], one[last] = one[last], one["<pad>"]
    return TokenizerPair(
        MarianTokenizer(source, sides["source"], "source"), MarianTokenizer(target, sides["target"], "target")
    )
