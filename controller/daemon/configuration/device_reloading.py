"""What a device's reload prepares: its file, read, and the controller that it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from controller.daemon.configuration.choosing import make_controller
from controller.daemon.configuration.settings import DeviceSettings, naming, read_settings
from controller.interface import Controller
from controller.scenarios import Setting


@dataclass(frozen=True, slots=True)
class PreparedDevice:
    """What `device.toml` asks for; the controller is reset."""

    settings: DeviceSettings
    controller: Controller


def prepare_device(path: Path, setting: Setting) -> PreparedDevice:
    """Read the file and make its controller. Raises `CoinferError`."""
    found = read_settings(path)
    with naming(path):
        controller = make_controller(found, setting)
        controller.reset()
    return PreparedDevice(found, controller)
