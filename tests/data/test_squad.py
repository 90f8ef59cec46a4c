"""SQuAD's JSON, both versions, and every way in which it can be wrong."""

import copy
import gzip
import json

import pytest

from tfzoo.data.sources import read, weight
from tfzoo.data.squad import Answer, Question, read_questions, read_texts
from tfzoo.errors import DataError, UsageError

CONTEXT = "Zoë ate 😀 pies; Ann ate pies."
CONTENT = {
    "version": "v2.0",
    "data": [
        {
            "title": "Pies",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "q1",
                            "question": "Who?",
                            "answers": [{"text": "Ann", "answer_start": 16}, {"text": "Zoë", "answer_start": 0}],
                            "is_impossible": False,
                        },
                        {
                            "id": "q2",
                            "question": "Why?",
                            "answers": [],
                            "is_impossible": True,
                            "plausible_answers": [{"text": "pies", "answer_start": 99}],
                        },
                    ],
                }
            ],
        },
        {"paragraphs": [{"context": "", "qas": [{"id": 3, "question": "", "answers": []}]}]},
    ],
}
QUESTIONS = [
    Question("q1", "Who?", CONTEXT, (Answer("Ann", 16), Answer("Zoë", 0))),
    Question("q2", "Why?", CONTEXT, ()),
    Question("3", "", "", ()),
]


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return f"squad:{path}"

    return write


def test_questions_come_with_contexts_and_answers(write):
    spec = write("a.json", CONTENT)
    assert list(read_questions(spec)) == QUESTIONS
    for one in QUESTIONS:
        for answer, start in one.answers:
            assert one.context[start : start + len(answer)] == answer
    assert (list(read_questions(f"{spec}@0.5")), weight(f"{spec}@0.5")) == (QUESTIONS, 0.5)


def test_globs_and_gzip_and_byte_order_marks(write, tmp_path):
    write("b.json.gz", gzip.compress(json.dumps(CONTENT).encode()))
    write("a.json", b"\xef\xbb\xbf" + json.dumps({"data": CONTENT["data"][1:]}).encode())
    write("c.txt", b"no")
    assert list(read_questions(f"squad:{tmp_path}/*.json*")) == [QUESTIONS[2], *QUESTIONS]


def test_a_tokenizer_is_trained_on_each_context_once(write):
    spec = write("a.json", CONTENT)
    assert list(read_texts([spec, spec])) == [(CONTEXT,), ("Who?",), ("Why?",), ("",), ("",)] * 2


def test_what_needs_columns_of_text_refuses_it_and_the_other_way_round(write):
    spec = write("a.json", CONTENT)
    for columns in (1, 2):
        with pytest.raises(
            UsageError, match=r"a\.json: `squad:` holds questions and answers, for the task 'question_a"
        ):
            read(spec, columns)
    with pytest.raises(UsageError, match=r"tsv:a\.tsv: questions with contexts and answers are needed; use `squad:`"):
        read_questions("tsv:a.tsv")
    with pytest.raises(UsageError, match="Did you mean 'squad'"):
        read_questions("squat:a.json")
    with pytest.raises(DataError, match=r"a\.jsn: no such file\. Did you mean 'a\.json'"):
        read_questions(spec.replace("json", "jsn"))


def _set(value, *path):
    """Damage: another value at a path of the content; None takes the field away."""

    def damage(content):
        *parents, last = path
        for one in parents:
            content = content[one]
        if value is None:
            del content[last]
        else:
            content[last] = value

    return damage


_PARAGRAPH = ("data", 0, "paragraphs", 0)
_QUESTION = (*_PARAGRAPH, "qas", 0)
_ANSWER = (*_QUESTION, "answers", 1)
_IN_QUESTION = r": article 1 \(Pies\), paragraph 1, question 1"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_set(None, "data"), r": the field 'data' is missing; there are \['version'\]"),
        (_set({}, "data"), r": the field 'data' must be a list, not \{\}"),
        (_set([], "data"), r": there is no question in it; name a file with at least one"),
        (_set(7, "data", 1), r": article 2 must be an object, not 7"),
        (_set(None, "data", 1, "paragraphs"), r": article 2: the field 'paragraphs' is missing"),
        (_set("x", *_PARAGRAPH), r": article 1 \(Pies\), paragraph 1 must be an object, not \"x\""),
        (
            _set(None, *_PARAGRAPH, "context"),
            r"\(Pies\), paragraph 1: the field 'context' is missing; there are \['qas",
        ),
        (_set("\ud800", *_PARAGRAPH, "context"), r"paragraph 1: the field 'context' holds half of a surrogate pair"),
        (_set(None, *_QUESTION, "id"), _IN_QUESTION + ": the field 'id' must be a string; received null"),
        (_set(True, *_QUESTION, "id"), _IN_QUESTION + ": the field 'id' must be a string; received true"),
        (_set(["x"], *_QUESTION, "question"), _IN_QUESTION + r" \(q1\): the field 'question' must be a string, not \["),
        (_set(None, *_QUESTION, "answers"), _IN_QUESTION + r" \(q1\): the field 'answers' is missing"),
        (_set(True, *_QUESTION, "is_impossible"), _IN_QUESTION + r" \(q1\): it is_impossible, and has answers; leave"),
        (_set("0", *_ANSWER, "answer_start"), r"\(q1\), answer 2: the field 'answer_start' must be a whole number"),
        (_set("", *_ANSWER, "text"), r"\(q1\), answer 2: its text is empty; an empty list of answers says that"),
        (
            _set(1, *_ANSWER, "answer_start"),
            r"\(q1\), answer 2: 'Zoë' is not what the context has at answer_start=1; it stands at 0, counted in",
        ),
        (_set(-30, *_ANSWER, "answer_start"), r"at answer_start=-30; it stands at 0, counted in"),
        (_set("pies", *_ANSWER, "text"), r"'pies' is not what the context has at answer_start=0; it stands at 10,"),
        (
            _set("Bob", *_ANSWER, "text"),
            r"'Bob' is not what the context has at answer_start=0; it stands nowhere in it",
        ),
    ],
)
def test_malformed_content_is_named_with_its_place(write, damage, message):
    content = copy.deepcopy(CONTENT)
    damage(content)
    with pytest.raises(DataError, match=r"a\.json.*" + message) as error:
        list(read_questions(write("a.json", content)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.json",
            b'{"data":\n [}',
            r"a\.json:2: broken JSON at character 3 \(Expecting value\); give one JSON object",
        ),
        ("a.json", b"", r"a\.json:1: broken JSON at character 1"),
        ("a.json", b"[]", r"a\.json: the file must be an object, not \[\]"),
        ("a.json", b'{"data": "G\xfcn"}', r"a\.json: byte 12 \(0xfc\) is not UTF-8; convert the file"),
        ("a.json.gz", b"{}", r"a\.json\.gz cannot be read: Not a gzipped file"),
        ("a.json.gz", gzip.compress(b"{}" * 99, mtime=0)[:-9], r"a\.json\.gz cannot be read: "),
    ],
)
def test_files_that_do_not_parse_are_named(write, name, content, message):
    with pytest.raises(DataError, match=message) as error:
        list(read_questions(write(name, content)))
    assert "\n" not in str(error.value)
