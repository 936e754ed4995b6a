"""Public names say what they are, what they take and what they raise."""

from typing import Any, List

import pytest

pytest.importorskip("allennlp")

from scripts.reference.public_names import PublicName, all_public_names  # noqa: E402
from scripts.reference.registered import PAGES, ours  # noqa: E402
from sledgehammer_allennlp.exits import confidence  # noqa: E402
from tests.docs.docstring_rules import errors_raised, faults_of  # noqa: E402


def registered() -> List[PublicName]:
    """What configs name, exported or not."""
    classes = [cls for page in PAGES.values() for base in page.bases for _, cls in ours(base)]
    return [PublicName(c.__module__, c.__qualname__, c, c.__doc__ or "") for c in classes]


@pytest.mark.parametrize("name", confidence.available_confidences())
def test_a_measure_of_confidence_says_what_it_is(name: str) -> None:
    assert confidence.confidence_by_name(name).function.__doc__


@pytest.mark.parametrize(
    "name", [*all_public_names(), *registered()], ids=lambda name: f"{name.module}.{name.name}"
)
def test_the_docstring_of_a_public_name_says_what_it_has_to(name: PublicName) -> None:
    assert faults_of(name) == []


def of(value: Any) -> List[str]:
    return faults_of(PublicName("m", "x", value, value.__doc__ or ""))


def test_a_name_without_docstring_is_found():
    def silent(): ...

    class Silent:
        """It has a method."""

        def method(self): ...

        def __init__(self): ...

    assert of(silent) == ["m.x has no docstring"]
    assert of(Silent) == ["m.x.method has no docstring"]
    assert faults_of(PublicName("m", "LIMIT", 3, "")) == ["m.LIMIT has no docstring"]


def test_a_parameter_that_is_not_named_is_found_and_one_that_is_not_there():
    def scale(logits, temperature, *rest, **more):
        """Divides `logits` by it."""

    def divide(logits):
        """
        # Parameters

        logit : `float`
        """

    assert of(scale) == ["m.x: does not name its parameter temperature"]
    assert of(divide) == [
        "m.x: does not name its parameter logits",
        "m.x: has no parameter logit",
    ]


def test_a_default_that_differs_is_found():
    def wait(seconds=3.0, times=2, name=None):
        """
        # Parameters

        seconds : `float`, optional (default = `4.0`)
        times : `int`, optional (default = `2`)
        name : `str`, optional (default = `"made"`)
        """

    assert of(wait) == ["m.x: says that the default of seconds is 4.0, and it is 3.0"]


def test_an_error_that_is_raised_and_not_named_is_found():
    def check(value):
        """Checks `value`."""
        if value:

            def inner():
                raise KeyError("not its own")

            raise ValueError("wanted none")
        raise NotImplementedError

    class Checked:
        """
        # Parameters

        value : `int`

        # Raises

        TypeError
            If it is not one.
        """

        def __init__(self, value):
            if value:
                raise TypeError("so")
            raise ValueError("wanted more")

    assert errors_raised(check) == {"ValueError"}
    assert of(check) == ["m.x does not say when it raises ValueError"]
    assert of(Checked) == ["m.x does not say when it raises ValueError"]
