"""Policies as files: what is written is read, and what makes no sense is refused by its name."""

import dataclasses
import json

import numpy as np
import pytest

from artefacts import ArtefactError, digest_file
from controller.policies.network import load_policy, save_policy
from controller.policies.observation import WIDTH


def test_a_policy_round_trips_and_is_refused_elsewhere(tmp_path, stream, closed, random_policy):
    policy = random_policy(stream)
    save_policy(tmp_path, policy)
    again = load_policy(tmp_path, stream)
    x = np.random.default_rng(0).uniform(-3, 3, (1000, WIDTH)).astype(np.float32)
    assert again.scores(x).tolist() == policy.scores(x).tolist()
    assert (again.advantages.table == policy.advantages.table).all()
    assert (again.belief.kernels == policy.belief.kernels).all()
    save_policy(tmp_path / "again", again)
    for name in ("policy.json", "policy.npz"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()
    with pytest.raises(ArtefactError, match="found a policy of '3g-alexnet', expected one of 'edg"):
        load_policy(tmp_path, closed)
    raw = bytearray((tmp_path / "policy.npz").read_bytes())
    raw[200] ^= 1
    (tmp_path / "policy.npz").write_bytes(raw)
    with pytest.raises(ArtefactError, match="field 'digest'"):
        load_policy(tmp_path, stream)


def spoilt(policy, name):
    """The policy with one of its arrays made senseless."""
    belief, table = policy.belief, policy.advantages
    change = dataclasses.replace
    c = len(policy.lowest)
    return {
        "lowest": lambda: change(policy, lowest=np.zeros(3, dtype=np.float32)),
        "highest": lambda: change(policy, highest=np.full(c, np.nan, dtype=np.float32)),
        "lowest above": lambda: change(policy, lowest=policy.highest + 1),
        "belief_kernels": lambda: change(
            policy, belief=change(belief, kernels=np.zeros_like(belief.kernels))
        ),
        "belief_rates_bps": lambda: change(
            policy, belief=change(belief, rates_bps=-1 - belief.rates_bps)
        ),
        "belief_rates_bps that fall": lambda: change(
            policy, belief=change(belief, rates_bps=belief.rates_bps[::-1])
        ),
        "belief_lags_s": lambda: change(
            policy, belief=change(belief, lags_s=np.zeros_like(belief.lags_s))
        ),
        "belief_edges_bps": lambda: change(
            policy, belief=change(belief, edges_bps=belief.edges_bps[::-1])
        ),
        "advantages_device_s": lambda: change(
            policy, advantages=change(table, device_s=np.zeros_like(table.device_s))
        ),
        "advantages_uplink_s": lambda: change(
            policy, advantages=change(table, uplink_s=table.uplink_s[::-1])
        ),
    }[name]()


@pytest.mark.parametrize(
    ("name", "field"),
    [(n, n) for n in ("lowest", "highest", "belief_kernels", "belief_rates_bps", "belief_lags_s",
                      "belief_edges_bps", "advantages_device_s", "advantages_uplink_s")]
    + [("lowest above", "lowest"), ("belief_rates_bps that fall", "belief_rates_bps")],
)  # fmt: skip
def test_a_policy_whose_arrays_make_no_sense_names_the_array(
    tmp_path, stream, random_policy, name, field
):
    policy = random_policy(stream)
    save_policy(tmp_path, spoilt(policy, name))
    card = json.loads((tmp_path / "policy.json").read_text())
    card["weights_digest"] = digest_file(tmp_path / "policy.npz")
    (tmp_path / "policy.json").write_text(json.dumps(card))
    with pytest.raises(ArtefactError, match=f"field '{field}'"):
        load_policy(tmp_path, stream)


@pytest.mark.parametrize("raw", [b"", b"PK", b"\x93NUMPY\x01\x00", b"x" * 1000])
def test_a_policy_that_is_no_archive_is_one_line(tmp_path, stream, random_policy, raw):
    save_policy(tmp_path, random_policy(stream))
    (tmp_path / "policy.npz").write_bytes(raw)
    card = json.loads((tmp_path / "policy.json").read_text())
    card["weights_digest"] = digest_file(tmp_path / "policy.npz")
    (tmp_path / "policy.json").write_text(json.dumps(card))
    with pytest.raises(ArtefactError, match="expected an npz of arrays"):
        load_policy(tmp_path, stream)
