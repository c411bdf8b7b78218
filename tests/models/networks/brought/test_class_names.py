"""Names of classes that a module carries."""

from types import SimpleNamespace

import pytest
from torch import nn

from artefacts import UsageError
from models.facts.answers import CLASSES, BoxesAnswer
from models.networks.brought.card_entries import check_names
from models.networks.brought.class_names import class_names


def having(**attributes):
    module = nn.Identity()
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


@pytest.mark.parametrize(
    ("attributes", "names"),
    [
        ({"classes": ["cat", "dog"]}, ("cat", "dog")),
        ({"names": {0: "cat", 1: "dog"}}, ("cat", "dog")),
        ({"names": {"1": "dog", "0": "cat"}}, ("cat", "dog")),
        ({"config": SimpleNamespace(id2label={0: "cat", 1: "dog"})}, ("cat", "dog")),
        ({"config": SimpleNamespace(id2label={0: "LABEL_0", 1: "LABEL_1"})}, ()),
        ({"classes": 10}, ()),
        ({"classes": ["cat", "cat"]}, ()),
        ({"classes": 2, "class_names": ("cat", "dog")}, ("cat", "dog")),
        ({"names": {0: "cat", 5: "dog"}}, ()),
        ({}, ()),
    ],
)
def test_a_module_names_its_classes(attributes, names):
    assert class_names(having(**attributes)) == names


def test_a_wrapped_module_is_asked_too():
    assert class_names(nn.DataParallel(having(classes=["a", "b"]))) == ("a", "b")


def test_classes_of_other_names_than_the_module_s_are_not_guessed():
    """In alphabetical order they would be other scores than they are called after."""
    module = having(classes=["cat", "dog", "owl"])
    for names in ((), ("cat", "dog"), ("owl", "cat", "dog")):
        check_names(names, module, 3, CLASSES, "mine")
    with pytest.raises(UsageError) as refused:
        check_names(("bird", "cat", "fox"), module, 3, CLASSES, "mine")
    assert str(refused.value) == (
        "--data: found classes bird, fox, expected those of model 'mine' (cat, dog, owl), or "
        "--classes: a file of names in the order of its scores"
    )
    check_names(("bird", "fox"), module, 2, CLASSES, "mine")  # three names of other scores
    check_names(("bird", "fox"), having(), 2, CLASSES, "mine")
    with pytest.raises(UsageError, match="found classes bird"):
        check_names(("bird",), module, 7 * 4, BoxesAnswer(4), "mine")
