"""Signatures of networks that are asked for nothing but what they take and give."""

from controller.daemon.inference.signature import Signature
from models.facts.preprocessing import PictureInput


def of_pictures(size, classes=()):
    """A classifier's of pictures (height, width)."""
    return Signature(PictureInput(), (3, *size), values=max(len(classes), 2), classes=classes)
