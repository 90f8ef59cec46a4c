"""Writes the Unicode tables of the page's WordPiece: what `tokenizers` makes of each code point.

Usage: python -m tests.demo.word_piece_tables
"""

import collections
import itertools
import unicodedata

import tokenizers as hf

from tfzoo.demo.server import PAGE

FILE = PAGE / "word_piece_tables.mjs"
CODE_POINTS = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
WIDTH = 110  # characters of a line's content


def content():
    """The module's text."""
    as_is = {"clean_text": True, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    cleaned = _normalized(hf.normalizers.BertNormalizer(**as_is))
    chinese = _normalized(hf.normalizers.BertNormalizer(**as_is | {"clean_text": False, "handle_chinese_chars": True}))
    decomposed = _normalized(hf.normalizers.NFD())
    bare = _normalized(hf.normalizers.BertNormalizer(**as_is | {"strip_accents": True}))
    kept = [code for code in CODE_POINTS if cleaned[code]]
    letters = [chr(code) for code in kept if cleaned[code] != " "]
    words = hf.pre_tokenizers.BertPreTokenizer().pre_tokenize_str("a".join(["", *letters, ""]))
    separate = {word for word, _ in words} - {"a"}
    marks = collections.defaultdict(list)
    for code, order in _combining_classes().items():
        if cleaned[code] and bare[code]:
            marks[order].append(code)
    tables = {
        "DROPPED": [code for code in CODE_POINTS if not cleaned[code]],
        "CHINESE": [code for code in kept if chinese[code] == f" {chr(code)} "],
        "PUNCTUATION": [ord(character) for character in letters if character in separate],
        "DECOMPOSED": [code for code in kept if decomposed[code] != chr(code)],
        "ACCENTS": [code for code in kept if not bare[code]],
    }
    return "".join(
        [
            "// Written by tests/demo/word_piece_tables.py: what `tokenizers` makes of each code point; first-last in\n"
            "// base 16. MARKS are those that are no accents, by their combining class.\n",
            *(f"\nexport const {name} ={_literal(codes)};\n" for name, codes in tables.items()),
            "\nexport const MARKS = {\n",
            *(f"  {order}:{_literal(marks[order])},\n" for order in sorted(marks)),
            "};\n",
        ]
    )


def _normalized(normalizer):
    """Code point -> what a normalizer makes of it."""
    found = {}
    for start in range(0, len(CODE_POINTS), 4096):
        chunk = CODE_POINTS[start : start + 4096]
        # Between spaces nothing joins or moves.
        found |= zip(chunk, normalizer.normalize_str(" x ".join(map(chr, chunk))).split(" x "), strict=True)
    return found


def _combining_classes():
    """Code point -> class above 0, of the marks that `tokenizers` puts in order."""
    nfd = hf.normalizers.NFD()
    classes = {code: unicodedata.combining(chr(code)) for code in CODE_POINTS}
    # Between the marks of the highest and of the lowest class, every mark but an unknown one makes them move.
    probes = {code: f"\u0345{chr(code)}\u0334" for code, order in classes.items() if order}
    return {code: classes[code] for code, probe in probes.items() if nfd.normalize_str(probe) != probe}


def _literal(codes):
    """Ranges as a JavaScript string, over several lines where they need them."""
    lines = [""]
    for _, group in itertools.groupby(enumerate(sorted(codes)), lambda pair: pair[1] - pair[0]):
        run = [f"{code:x}" for _, code in group]
        one = f"{run[0]}-{run[-1]} " if len(run) > 1 else f"{run[0]} "
        if len(lines[-1] + one) > WIDTH:
            lines.append("")
        lines[-1] += one
    lines[-1] = lines[-1].rstrip()
    quoted = [f'"{line}"' for line in lines]
    return f" {quoted[0]}" if len(quoted) == 1 else "\n  " + " +\n  ".join(quoted)


if __name__ == "__main__":
    FILE.write_text(content(), encoding="utf-8")
