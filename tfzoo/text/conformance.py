"""What a tokenizer makes of a few hundred texts, for every other implementation of it to be held against.

The texts are in groups by what they try. Groups in which Hugging Face's implementations of the format are known to go
their own way are listed in `KNOWN_DIFFERENCES`; everywhere else they agree id for id.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

from tfzoo.text.marian import MarianTokenizer
from tfzoo.text.special_tokens import BERT_TOKENS, END_OF_TEXT, SPECIAL_TOKENS
from tfzoo.text.tokenizers import Tokenizer
from tfzoo.text.word_piece import WordPieceTokenizer

# Group -> why the two readers of tokenizer.json, `tokenizers` (Rust) and transformers.js, may give other ids.
KNOWN_DIFFERENCES = {
    "special_tokens": {
        "readers": ["tokenizers", "transformers.js"],
        "why": "text that spells a special token, such as </s> or [SEP], is that token there and ordinary text here",
    },
    "bare_marks": {
        "readers": ["tokenizers", "transformers.js"],
        "why": "their normalizers treat combining marks that compose with nothing by rules of their own",
    },
    "joiners": {
        "readers": ["transformers.js"],
        "why": "its normalizer turns the zero-width joiner and non-joiner into a space",
    },
    "vocabulary_apart": {
        "readers": ["tokenizers", "transformers.js"],
        "why": "a Marian tokenizer looks up in vocab.json whatever its SentencePiece model cuts off, which may lack a "
        "piece that the other has; there both are one list",
    },
    "unknown": {
        "readers": ["tokenizers", "transformers.js"],
        "why": "an unknown id decodes to <unk> or [UNK], or to nothing where special tokens are skipped; here to ⁇",
    },
}
_WORD_PIECE_DIFFERENCES = {
    "planes": {
        "readers": ["transformers.js"],
        "why": "it tells punctuation by a newer Unicode, and does not part ideographs beyond the first plane",
    },
}

_LITERAL = {
    "empty": ("", " ", "   ", "\t", "\n", " \t\r\n "),
    "spaces": (
        " a",
        "a ",
        "  a  b  ",
        "a\tb",
        "a\nb\r\nc",
        "\na dog\n",
        "a\u00a0b",
        "\u3000日本\u3000",
        "\u2003a\u2009b\u202f",
        "zero\u200bwidth",
        "\ufeffmark",
        "line\u2028paragraph\u2029end",
    ),
    "scripts": (
        "The quick brown fox jumps over the lazy dog.",
        "Falsches Üben von Xylophonmusik quält jeden größeren Zwerg",
        "Portez ce vieux whisky au juge blond qui fume, à l'œil.",
        "Benjamín pidió una bebida de kiwi y fresa; ¡Noé, sin vergüenza!",
        "Zażółć gęślą jaźń",
        "Tiếng Việt rất đẹp",
        "Pijamalı hasta yağız şoföre çabucak güvendi. İı",
        "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία",
        "Съешь же ещё этих мягких французских булок",
        "نص حكيم له سر قاطع",
        "דג סקרן שט בים מאוכזב",
        "ऋषियों को सताने वाले दुष्ट राक्षसों",
        "ও এক বাঙালি",
        "தமிழ் மொழி",
        "తెలుగు భాష",
        "เป็นมนุษย์สุดประเสริฐ",
        "ພາສາລາວ",
        "ភាសាខ្មែរ",
        "မြန်မာဘာသာ",
        "བོད་སྐད",
        "ქართული ენა",
        "Հայերեն լեզու",
        "አማርኛ",
        "ᏣᎳᎩ",
        "ᚠᛇᚻ᛫ᛒᛦᚦ",
        "你好，世界。",
        "臺灣繁體中文「測試」",
        "いろはにほへと ちりぬるを",
        "カタカナとひらがな、漢字。",
        "키스의 고유조건은 입술끼리 만나야 하고",
        "mixed 漢字 and русский, all at once",
    ),
    "emoji": (
        "😀",
        "a 😀 b",
        "👍🏽👍🏿",
        "🇩🇪🇫🇷",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "1\ufe0f\u20e3",
        "❤\ufe0f and ❤",
    ),
    "normalization": (
        "ｆｕｌｌ　ｗｉｄｔｈ　１２３",
        "ｶﾞｷﾞｸﾞﾊﾟﾋﾟﾌﾟ",
        "ﬁrst ﬂight oﬀ",
        "①②③ ½ ¾ ㎏ ㏒ ™ ℡",
        "x² + y³ = zⁿ",
        "Ａ\u2160\u216b ⅷ",
        unicodedata.normalize("NFD", "Ünïcödé ǖ Ấ Tiếng Việt"),
        unicodedata.normalize("NFD", "각 나라의 말"),
        "ΐ ᾧ ἄλλος",
        "ß ẞ ſ ı İ",
        "“quotes” ‘single’ — dash – en… ‐ ‑",
        "soft\u00adhyphen",
    ),
    "numbers": ("3.14159", "1,234,567.89 €", "-40 °C", "2024-02-29T23:59:60Z", "0x7fff", "v1.2.3-rc.4+5", "١٢٣ ४५६"),
    "markup": (
        "<b>bold</b> &amp; [link](https://example.com/a?b=c&d=%20#e)",
        'if (a != b && c <= d) { return "x\\n"; }',
        "user.name+tag@example.com",
        "C:\\Users\\name\\file.txt /usr/local/bin",
        '{"json": [1, null, true]}',
        "!!!???... *** --- === ~~~ ```",
    ),
    "pieces": ("▁", "▁a", "a▁", "a▁b", "▁▁", "_ _", "⁇", "a ⁇ b", "##ing", "Ġhello", "<0x41>"),
    "repeats": ("ooo", "oooooooo", "aaaa aaaa", "hahahahahaha", "abababababab", "the the the the"),
    "controls": ("\x01\x02\x1f", "a\x07b", "a\x0bb\x0cc", "\x1c\x1d\x1e", "\x7f\x80\x85\x9f", "left\u200eright\u200f"),
    "joiners": ("👩\u200d👩\u200d👧\u200d👧", "🧑🏻\u200d🚀 goes", "می\u200cخواهم", "क्\u200dष"),
    "special_tokens": (
        *SPECIAL_TOKENS,
        "a</s>b",
        "a </s> b",
        "<s>a</s>",
        "<unk> <pad>",
        END_OF_TEXT,
        f"a {END_OF_TEXT}b",
        *BERT_TOKENS,
        "a[SEP]b",
        "a [MASK] b",
    ),
    "bare_marks": (
        "\u0301",
        "a\u0301\u0302\u0323",
        "ｱ\u0301",
        "ﾞ",
        "５\u0338",
        "\u200d\u0308",
        "\u0e31a",
        "Ａ\u0300\u0301",
    ),
}
_LONG = 4000  # characters
_CODE = re.compile(">>[^<>]+<<")  # a language, of a Marian tokenizer; at the very beginning no reader differs
_JOINERS = "\u200c\u200d"


def known_differences(tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
    """Returns the groups in which Hugging Face's readers of a tokenizer's files may give something else, and why."""
    return KNOWN_DIFFERENCES | (_WORD_PIECE_DIFFERENCES if isinstance(tokenizer, WordPieceTokenizer) else {})


class Vectors(NamedTuple):
    """encode: {"group", "text", "ids"}, ids without special tokens; decode: {"group", "ids", "text"}."""

    encode: list[dict[str, Any]]
    decode: list[dict[str, Any]]


def vectors(tokenizer: Tokenizer, texts: Iterable[str] = ()) -> Vectors:
    """Returns what a tokenizer makes of the conformance texts; the same at each call, and without TensorFlow.

    Args:
        tokenizer: any.
        texts: more of them, of the kind that the tokenizer is for.
    """
    candidates = [*(("texts", text) for text in texts), *_texts(tokenizer)]
    samples = [(_group(group, text, tokenizer), text) for group, text in candidates]
    encoded = [(group, text, tokenizer.encode(text)) for group, text in samples]
    decode = [
        {"group": "unknown" if tokenizer.unk_id in ids else "known", "ids": ids, "text": tokenizer.decode(ids)}
        for ids in _sequences(tokenizer, [ids for _, _, ids in encoded])
    ]
    return Vectors([{"group": group, "text": text, "ids": ids} for group, text, ids in encoded], decode)


def _group(group: str, text: str, tokenizer: Tokenizer) -> str:
    """The group that a text belongs to by what is in it, wherever it comes from."""
    if any(token in text for token in (*SPECIAL_TOKENS, END_OF_TEXT, *BERT_TOKENS)) or _CODE.search(text, 1):
        return "special_tokens"
    if isinstance(tokenizer, MarianTokenizer) and not tokenizer.is_cut_by_vocabulary(text):
        return "vocabulary_apart"
    if group in ("vocabulary", "long") and any(_is_mark(character) for character in text):
        return "bare_marks"
    if group != "bare_marks" and any(joiner in text for joiner in _JOINERS):
        return "joiners"
    return group


def _texts(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    generator = random.Random(0)
    found = [(group, text) for group, texts in _LITERAL.items() for text in texts]
    if isinstance(tokenizer, MarianTokenizer):
        found += [
            ("codes", f"{code}{rest}") for code in tokenizer.codes for rest in ("", " A dog runs.", "runs", "  a")
        ]
    found += [("planes", text) for text in _unicode_samples(generator)]
    for length in (1, 2, 3, 5, 8, 13, 21, 34):
        found += [("vocabulary", tokenizer.decode(_random_ids(tokenizer, generator, length))) for _ in range(8)]
    long = tokenizer.decode(_random_ids(tokenizer, generator, _LONG))
    return found + [("long", text) for text in (long[:_LONG], "a" * _LONG, "a b " * (_LONG // 4), "漢" * (_LONG // 4))]


def _random_ids(tokenizer: Tokenizer, generator: random.Random, length: int) -> list[int]:
    return [generator.randrange(len(SPECIAL_TOKENS), tokenizer.vocabulary_size) for _ in range(length)]


def _unicode_samples(generator: random.Random) -> list[str]:
    """Assigned characters from all over Unicode, a few together between letters."""
    samples = []
    for start in (*range(0xA0, 0x3400, 0x180), *range(0x3400, 0x10000, 0x1000), *range(0x10000, 0x32000, 0x1800)):
        codes = [code for code in range(start, start + 0x180) if _is_assigned_base(chr(code))]
        if codes:
            chosen = "".join(chr(generator.choice(codes)) for _ in range(5))
            samples.append(f"{chosen[:2]} a{chosen[2:]} b")
    return samples


def _is_assigned_base(character: str) -> bool:
    return unicodedata.category(character) not in ("Cn", "Cs", "Co", "Cf") and not _is_mark(character)


def _is_mark(character: str) -> bool:
    # Half-width voicing marks count: they join the letter before them.
    return unicodedata.category(character).startswith("M") or character in "\uff9e\uff9f"


def _sequences(tokenizer: Tokenizer, encoded: list[list[int]]) -> list[list[int]]:
    """Encoded texts, random ids, and ids between special tokens."""
    generator = random.Random(1)
    known: list[list[int]] = [ids for ids in encoded if ids and len(ids) <= 64 and tokenizer.unk_id not in ids]
    sequences = known[:: max(1, len(known) // 40)]
    sequences += [_random_ids(tokenizer, generator, length) for length in (1, 1, 2, 3, 5, 8, 13, 21, 34, 55)]
    ids = _random_ids(tokenizer, generator, 3)
    pad, start, end, unk = tokenizer.pad_id, tokenizer.start_id, tokenizer.end_id, tokenizer.unk_id
    sequences += [[], [pad], [end], [start, *ids, end, pad, pad], [ids[0], pad, ids[1]], [unk], [ids[0], unk, ids[1]]]
    return sequences
