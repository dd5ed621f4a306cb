"""Options that the commands of all backends share."""

import argparse

import pytest

from export.options import add_activation_options

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(("word", "meaning"), [("float", "float32"), ("float32", "float32"), ("int8", "int8")])
def test_words_for_activations(word: str, meaning: str) -> None:
    parser = argparse.ArgumentParser()
    add_activation_options(parser)
    assert parser.parse_args(["--activations", word]).activations == meaning


def test_another_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_activation_options(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--activations", "float16"])
    assert "float16" in capsys.readouterr().err
