"""One definition of an option serves the command line and a call from Python."""

import argparse
from dataclasses import dataclass

import pytest

from codeq.errors import CodeqError
from codeq.toolkit.options import LARGEST, add_options, check_options, flag_of, option, options_of


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Some of each kind."""

    storage: str = option("auto", "how weights are stored", choices=("auto", "dense"))
    opset: int | None = option(None, "opset to write", low=1, high=25)
    rate: float = option(0.1, "learning rate", low=0.0, high=1.0, above=True)
    small_codes: bool = option(False, "two codes a byte")
    left_out: tuple[str, ...] = option((), "layers", metavar="PATTERN", repeat=True)
    force: bool = False


def parse(*words: str, suppress: bool = False) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_options(parser, Settings, suppress=suppress)
    return parser.parse_args(words)


def test_what_was_typed_becomes_the_fields() -> None:
    arguments = parse("--storage", "dense", "--opset", "13", "--small-codes", "--rate", "0.5")
    settings = Settings(**options_of(arguments, Settings))
    assert settings == Settings(storage="dense", opset=13, small_codes=True, rate=0.5)


def test_what_was_not_typed_has_the_default() -> None:
    assert options_of(parse(), Settings) == {
        "storage": "auto",
        "opset": None,
        "rate": 0.1,
        "small_codes": False,
        "left_out": (),
    }


def test_a_default_can_be_told_from_a_wish() -> None:
    assert options_of(parse("--rate", "0.1", suppress=True), Settings) == {"rate": 0.1}


def test_a_repeated_flag_collects() -> None:
    assert options_of(parse("--left-out", "a", "--left-out", "b"), Settings)["left_out"] == ("a", "b")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--storage", "zip"], "invalid choice"),
        (["--opset", "0"], "from 1 to 25"),
        (["--rate", "0"], "above 0 and at most 1"),
    ],
)
def test_a_flag_has_the_choices_and_bounds(words: list[str], text: str) -> None:
    with pytest.raises(argparse.ArgumentError, match=text):
        parse(*words)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"storage": "zip"}, "storage 'zip', expected one of auto, dense"),
        ({"opset": 0}, "opset 0, expected a number of at least 1 and at most 25"),
        ({"rate": 0.0}, "rate 0.0, expected a number above 0 and at most 1"),
    ],
)
def test_a_call_from_python_is_held_to_the_same(values: dict[str, object], text: str) -> None:
    with pytest.raises(CodeqError, match=text):
        check_options(Settings(**values), CodeqError)  # type: ignore[arg-type]
    check_options(Settings(), CodeqError)


def test_help_shows_defaults_also_where_they_are_told_from_wishes() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Settings, suppress=True)
    assert "how weights are stored (default: auto)" in " ".join(parser.format_help().split())
    assert "None" not in parser.format_help()


def test_a_flag_is_the_name_with_dashes() -> None:
    assert flag_of(Settings, "left_out") == "--left-out"


@dataclass(frozen=True)
class Further:
    share: float = option(0.5, "a share", low=0.0, high=1.0, above=True, below=True)
    flip: bool | None = option(None, "mirror", switch=True, shown="by data set")
    seed: int = option(0, "seed", low=0, high=LARGEST)


def test_a_switch_has_a_twin_that_says_no() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, Further, suppress=True)
    assert [options_of(parser.parse_args(words), Further) for words in ([], ["--flip"], ["--no-flip"])] == [
        {},
        {"flip": True},
        {"flip": False},
    ]
    assert "mirror (default: by data set)" in " ".join(parser.format_help().split())


@pytest.mark.parametrize("value", [0.0, 1.0, float("nan"), "x", True])
def test_what_is_no_number_within_open_bounds(value: object) -> None:
    with pytest.raises(CodeqError, match=f"^share {value!r}, expected a number above 0 and below 1$"):
        check_options(Further(share=value), CodeqError)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"seed": 0.5}, "seed 0.5, expected int"),
        ({"seed": None}, "seed None, expected int"),
        ({"flip": 1}, r"flip 1, expected bool \| None"),
        ({"flip": "a\nb"}, r"flip 'a\\nb', expected bool \| None"),
    ],
)
def test_a_value_of_another_type_is_named(values: dict[str, object], text: str) -> None:
    """A file may hold any; the flags give the right ones."""
    with pytest.raises(CodeqError, match=f"^{text}$"):
        check_options(Further(**values), CodeqError)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Named:
    file: str = option("a", "a file")


@pytest.mark.parametrize(("value", "shown"), [("\ud800", r"'\\ud800'"), ("a\0b", r"'a\\x00b'")])
def test_a_text_that_no_file_could_be_called_is_named(value: str, shown: str) -> None:
    with pytest.raises(CodeqError, match=f"^file {shown}, expected text that a file's name could have$"):
        check_options(Named(value), CodeqError)
    check_options(Named("\udcff"), CodeqError)  # as Python reads a name that is no UTF-8


def test_a_bound_as_good_as_none_is_not_named() -> None:
    with pytest.raises(CodeqError, match=r"^seed -1, expected a number of at least 0$"):
        check_options(Further(seed=-1), CodeqError)
