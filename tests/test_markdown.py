"""Markdown: names stay names, file names stay in their folder, numbers have a fixed form."""

from __future__ import annotations

import pytest

from suite.markdown import duration, escape, estimate, file_name, number, plural, table


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q_learning", "q_learning"),
        ("CartPole-v1", "CartPole-v1"),
        ("a|b", r"a\|b"),
        (r"a\|b", r"a\\\|b"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("&lt;", "&amp;lt;"),
        ("[x](javascript:y)", r"\[x\](javascript:y)"),
        ("![x](y)", r"!\[x\](y)"),
        ("`code`", r"\`code\`"),
        ("*bold* _italic_", r"\*bold\* \_italic\_"),
        ("$x$", r"\$x\$"),
        ("https://example.org", r"https\://example.org"),
        ("www.example.org", r"www\.example.org"),
        ("someone@example.org", r"someone\@example.org"),
        ("first\n\n# second\r\n| third", r"first \# second \| third"),
        ("left\u202eright", "left?right"),
        ("\x1b[31mred", r"?\[31mred"),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_a_name_shows_as_itself(name: str, text: str):
    assert escape(name) == text


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("CartPole-v1", "CartPole-v1"),
        ("q_learning", "q_learning"),
        ("../../etc/passwd", "_.._etc_passwd-3754d6cb"),
        ("..", "name-5ec1f7e7"),
        (".hidden", "hidden-16924190"),
        ("", "name-e3b0c442"),
        ("a b", "a_b-c8687a08"),
        ("a/b", "a_b-c14cddc0"),
        ("nul", "nul-99e62427"),
    ],
)
def test_a_file_name_is_one_harmless_part_of_a_path(name: str, path: str):
    assert file_name(name) == path


def test_two_names_never_share_a_file():
    assert len({file_name(name) for name in ("a b", "a/b", "a_b", "a\nb", "a" * 90, "a" * 91)}) == 6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12345.678, "12346"),
        (-1255.55, "-1256"),
        (487.31, "487.3"),
        (-3.14159, "-3.14"),
        (0.5, "0.500"),
        (0.0, "0.000"),
        (-0.0001, "0.000"),
    ],
)
def test_scores_have_decimals_that_suit_them(value: float, text: str):
    assert number(value) == text


def test_an_estimate_and_its_ends_have_the_same_decimals():
    assert estimate(95.0, (80.123, 1000.0)) == "95 [80, 1000]"
    assert estimate(0.714, (0.62, 0.8), 2) == "0.71 [0.62, 0.80]"
    assert estimate(0.714, None, 2) == "0.71"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (116.0, "116.0 s"),
        (118.0, "2.0 min"),
        (5400.0, "90.0 min"),
        (9000.0, "2.5 h"),
    ],
)
def test_times_have_the_unit_that_suits_them(seconds: float, text: str):
    assert duration(seconds) == text


def test_counts_agree_with_their_noun():
    assert [plural(count, "seed") for count in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]


def test_a_table_aligns_text_left_and_numbers_right():
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| :-- | --: |\n| x | 1 |\n"
