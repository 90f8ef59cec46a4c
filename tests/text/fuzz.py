"""Strings that break tokenizers, the same ones in every run."""

import random
import unicodedata


def strings(count: int, *, seed: int, bare_marks: bool = True) -> list[str]:
    """Returns random strings over all Unicode planes, and the awkward ones by hand; never a NUL.

    Args:
        count: random strings.
        seed: which ones.
        bare_marks: False leaves out what Hugging Face's normalizer treats by its own rule (see `huggingface.py`):
            combining marks and conjoining letters that stand where nothing composes with them.
    """
    generator = random.Random(seed)
    by_hand = [
        "",
        " ",
        "  ",
        "a",
        " a",
        "a ",
        "  a  b  ",
        "\t",
        "a\nb",
        "a\r\nb",
        "a\u00a0b",
        "\u3000",
        "\ufeffa",
        "▁",
        "▁a",
        "a▁",
    ]
    by_hand += [
        "⁇",
        "a ⁇ b",
        "你好，世界",
        "Ünïcödé",
        "각",
        "가나",
        "👩‍👩‍👧‍👧",
        "🇩🇪🇫🇷",
        "👍🏽",
        "ooo",
        "oooooooo",
        "AH0 N",
        "\x1c\x85\u2028",
    ]
    texts = ["".join(_character(generator) for _ in range(generator.randrange(24))) for _ in range(count)]
    if not bare_marks:
        texts = ["".join(c for c in text if not _is_bare_mark(c)) for text in texts]
    return by_hand + texts


def _character(generator: random.Random) -> str:
    match generator.randrange(10):
        case 0 | 1 | 2:
            return chr(generator.randrange(ord("a"), ord("z") + 1))
        case 3:
            return " "
        case 4:
            return chr(generator.randrange(0x4E00, 0x9FFF))
        case 5:
            return generator.choice("😀👨\u200d👩🇩🇪👍🏽")
        case 6:
            return chr(generator.randrange(0x300, 0x370))
        case 7:
            return chr(
                generator.choice([*range(1, 32), *range(0x7F, 0xA1), 0x200B, 0xFEFF, 0x2028, 0x3000, 0xAD, 0x2581])
            )
        case 8:
            return chr(generator.randrange(0xFF00, 0xFFF0))
        case _:
            code = generator.randrange(0xA0, 0x110000 - 0x800)
            return chr(code if code < 0xD800 else code + 0x800)


def _is_bare_mark(character: str) -> bool:
    # What grapheme clusters take in: marks, joiners, emoji modifiers and half-width voicing marks.
    joining = {"\u200c", "\u200d", "\uff9e", "\uff9f"}
    return unicodedata.category(character).startswith("M") or character in joining


def not_utf8(count: int) -> list[bytes]:
    """Returns random strings of bytes: words, and pieces of characters that are not whole."""
    generator = random.Random(6)
    pieces = [
        b"\xff",
        b"\xc0",
        b"\xe4\xbd",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98",
        b"\xf4\x90",
        b"\x80",
        b"the",
        b" ",
        b"\0",
    ]
    return [b"".join(generator.choices(pieces, k=generator.randrange(8))) for _ in range(count)]
