"""Everything a device may compute, made ready before the first frame comes."""

from __future__ import annotations

import numpy as np

from artefacts.arrays import Float32s
from controller.physics.stages import Encode, Layers, last_resort, on_node
from controller.scenarios import Setting
from models.codecs.first_use import use_once
from models.executors import Executor
from models.facts.made_up import made_up_input
from models.graphs.coding import networks_of


def warm(setting: Setting, executor: Executor) -> None:
    """Run all that any plan's stages may ask of the device once, so that no frame pays for it."""
    spec, topology = setting.spec, setting.topology
    work = on_node(
        spec, setting.table.plans, topology.device, topology, anytime=not setting.closed_loop
    )
    use_once(sorted({piece.codec for piece in work if isinstance(piece, Encode)}))
    for piece in (*work, *last_resort(spec, topology).work):
        if isinstance(piece, Layers) and piece.start < piece.stop:
            executor.run(piece.branch, piece.start, piece.stop, _given(setting, piece))
        elif isinstance(piece, Encode) and networks_of(spec, piece.codec, piece.cut):
            executor.encode(piece.codec, piece.branch, piece.cut, _given(setting, piece))


def _given(setting: Setting, piece: Layers | Encode) -> Float32s:
    """A batch of one as the piece is given it: of a made-up sample at the input, else zeros."""
    at = piece.start if isinstance(piece, Layers) else piece.cut
    if at == 0:
        return made_up_input(setting.model.preprocessing, setting.spec.input_shape)
    return np.zeros((1, *setting.spec.shapes[piece.branch][at]), dtype=np.float32)
