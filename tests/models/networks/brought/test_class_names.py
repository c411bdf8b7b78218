"""Names of classes that a module carries."""

from types import SimpleNamespace

import pytest
from torch import nn

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
