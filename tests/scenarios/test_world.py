"""`[world]` of a scenario file: read, refused, and part of what a scenario is."""

import msgspec
import pytest
from tidy import tidy

from artefacts import ArtefactError
from controller.scenarios import SHIPPED, load_setting, read_scenario
from controller.scenarios.world import LoadSection, StateSection, WorldSection

WHOLE = """
[world]
sub_second = true
picture_sizes = true
scene_s = 4.0
likeness = 0.9
[world.device]
overhead_s = 0.001
jitter_s = 0.001
spread = [0.9, 1.0, 1.4]
throttled = { factor = 1.5, mean_s = 60.0, every_s = 600.0 }
shared = { factor = 2.0, mean_s = 2.0, every_s = 60.0 }
[world.edge]
overhead_s = 0.0005
load = { bursts_per_s = 5.0, burst_s = 0.02 }
"""


def written(tmp_path, world, name="lte-mobilenet"):
    path = tmp_path / "mine.toml"
    text = (SHIPPED / f"{name}.toml").read_text()
    assert "[world]" in text
    path.write_text(text.split("[world]")[0] + world)
    return path


def test_a_world_is_read_in_either_format_and_changes_the_digest(tmp_path):
    plain = tidy("lte-mobilenet")
    assert plain.world.tidy
    found = read_scenario(written(tmp_path, WHOLE))
    assert not found.world.tidy
    assert found.world.sub_second
    assert found.world.device.throttled == StateSection(1.5, 60.0, 600.0)
    assert found.world.edge.load == LoadSection(5.0, 0.02)
    assert found.world.edge.load.share == pytest.approx(0.1)
    assert found.digest != plain.digest
    # what is off, or left at its default, is no other scenario
    for empty in ("", "[world]\n", "[world]\nsub_second = false\nlikeness = 0.5\n"):
        assert read_scenario(written(tmp_path, empty)).digest == plain.digest
    other = read_scenario(written(tmp_path, "[world]\nscene_s = 2.0\n"))
    assert other.digest not in (plain.digest, found.digest)


@pytest.mark.parametrize(
    ("world", "said"),
    [
        ("[world]\nscene_s = -1.0\n", "world.scene_s': found -1, expected 0 to 86400"),
        ("[world]\nlikeness = 1.0\n", "world.likeness': found 1, expected 0 to 0.9999"),
        ("[world]\nsizes = true\n", "sizes"),
        ("[world.device]\noverhead_s = 40.0\n", "world.device.overhead_s': found 40, expected 0"),
        ("[world.device]\njitter_s = nan\n", "world.device.jitter_s': found nan"),
        ("[world.device]\nspread = [1.0]\n", "world.device.spread': found 1 quantiles"),
        ("[world.edge]\nspread = [1.0, 0.5]\n", "spread[1]': found 0.5, expected 1 or more"),
        ("[world.device]\nthrottled = { factor = 0.5, mean_s = 1.0, every_s = 1.0 }\n",
         "world.device.throttled.factor': found 0.5, expected 1 to 100"),
        ("[world.device]\nshared = { factor = 2.0, mean_s = 0.0, every_s = 1.0 }\n",
         "world.device.shared.mean_s': found 0"),
        ("[world.device]\nload = { bursts_per_s = 1.0, burst_s = 0.01 }\n", "world.device.load"),
        ("[world.edge]\nload = { bursts_per_s = 100.0, burst_s = 0.01 }\n",
         "world.edge.load': found 100 % of its time, expected 95 % at most"),
        ("[world.edge]\nload = { bursts_per_s = 95.0001, burst_s = 0.01 }\n",
         "world.edge.load': found 95.0001 % of its time, expected 95 % at most"),
    ],
)  # fmt: skip
def test_an_impossible_world_is_one_line_that_names_the_field(tmp_path, world, said):
    with pytest.raises(ArtefactError) as refused:
        read_scenario(written(tmp_path, world))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_sizes_that_were_not_recorded_are_named_with_the_command(tmp_path):
    path = written(tmp_path, "[world]\npicture_sizes = true\n", "3g-alexnet")
    with pytest.raises(ArtefactError, match=r"sizes.npz.*models.networks.sizes .*alexnet"):
        load_setting(read_scenario(path))


def test_every_part_has_rates_of_its_own_within_the_second(tmp_path):
    scenario = read_scenario("lte-mobilenet")
    topology = msgspec.structs.replace(
        scenario.topology,
        links=tuple(
            msgspec.structs.replace(one, traces=None, rate_bps=2e6)
            for one in scenario.topology.links
        ),
    )
    constant = msgspec.structs.replace(
        scenario, topology=topology, world=WorldSection(sub_second=True)
    )
    # a link of constant rate stays one
    assert load_setting(constant).traces("test").traces[0].rates_bps.std() == 0
