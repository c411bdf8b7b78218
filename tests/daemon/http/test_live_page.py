"""The interface in a real browser: its own page draws, and pages of other sites get nothing."""

import contextlib
import http.server
import io
import json
import re
import shutil
import subprocess
import threading
import urllib.request

import numpy as np
import pytest
from PIL import Image

from coinfer import Client
from models.data.pictures import generated_pictures

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--window-size=900,1000", "--virtual-time-budget=4000",
)  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


def small_jpeg():
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), (200, 30, 90)).save(stream, "JPEG")
    return stream.getvalue()


SMALL_JPEG = small_jpeg()


def browse(address, folder, *more, path="/live"):
    return subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder}/browser", *more, f"{address}{path}"],
        capture_output=True, text=True, check=True, timeout=120, cwd=folder,
    ).stdout  # fmt: skip


def test_the_page_shows_what_the_device_does(running, tmp_path):
    with running() as daemon:
        with Client(daemon.address) as client:
            for picture in generated_pictures(30, np.random.default_rng(0)):
                client.infer(picture, deadline_s=5.0)
        dom = browse(daemon.address, tmp_path, "--dump-dom")
        assert int(re.search(r'data-drawn="(\d+)"', dom)[1]) >= 1, dom[:2000]
        assert 'id="facts">no answer' not in dom
        assert '<span id="model">alexnet</span>' in dom
        assert ">30 frames<" in dom
        assert re.search(r"<div>\d+  exit 1 on the device</div>", dom)
        browse(daemon.address, tmp_path, f"--screenshot={tmp_path}/live.png")
        assert (tmp_path / "live.png").stat().st_size > 10_000
    assert not re.search(r'(src|href)="', dom)


PAGE = """<!doctype html><body><pre id="said"></pre><script>
const device = "%s", picture = new Uint8Array(%s), request = %s;
const tries = {
  "read state": () => fetch(device + "/live/state"),
  "read metrics": () => fetch(device + "/metrics"),
  "text": () => fetch(device + "/infer", {method: "POST", mode: "no-cors", body: request}),
  "no type": () => fetch(device + "/infer",
    {method: "POST", mode: "no-cors", body: new Blob([request])}),
  "picture": () => fetch(device + "/infer",
    {method: "POST", body: new Blob([picture], {type: "image/jpeg"})}),
  "beacon": () => Promise.resolve(navigator.sendBeacon(device + "/infer", request)),
};
(async () => {
  for (const [name, go] of Object.entries(tries)) {
    let said = "";
    try { const r = await go(); said = r.text ? r.type + " " + (await r.text()).slice(0, 40) : r; }
    catch (error) { said = error.name; }
    document.getElementById("said").textContent += name + ": " + said + "\\n";
  }
  document.body.dataset.done = "yes";
})();
</script></body>"""


@contextlib.contextmanager
def site(text):
    """A web server of somebody else's, whose every page is `text`."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *reported):
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def state(address):
    with urllib.request.urlopen(f"{address}/live/state", timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize("name", ["elsewhere.example", "localhost"])
def test_pages_of_other_sites_read_and_send_nothing(running, tmp_path, name):
    """Over another name and over another port of this machine; what they ask is looked at there."""
    with running() as daemon:
        picture = generated_pictures(1, np.random.default_rng(0))
        given = {"name": "picture", "shape": [1, 32, 32, 3], "datatype": "UINT8"}
        request = json.dumps({"inputs": [given | {"data": picture.ravel().tolist()}]})
        text = PAGE % (daemon.address, list(SMALL_JPEG), json.dumps(request))
        with site(text) as port:
            rules = "--host-resolver-rules=MAP *.example 127.0.0.1"
            dom = browse(f"http://{name}:{port}", tmp_path, "--dump-dom", rules, path="/")
        assert 'data-done="yes"' in dom, dom[:2000]
        for tried in ("read state", "read metrics", "picture"):
            assert f"{tried}: TypeError" in dom
        assert "text: opaque" in dom
        assert state(daemon.address)["frames"] == 0
        assert "frames" not in dom.split("</pre>")[0].split('id="said"')[1].replace("fetch", "")


def test_a_name_that_is_bound_to_loopback_again_reads_nothing(running, tmp_path):
    """DNS rebinding: to the browser the daemon is then of the page's own origin."""
    with running() as daemon:
        port = daemon.address.rpartition(":")[2]
        rules = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
        rebound = f"http://rebound.example:{port}"
        for path in ("/live/state", "/metrics", "/live"):
            dom = browse(rebound, tmp_path, "--dump-dom", rules, path=path)
            assert "Host: found 'rebound.example:" in dom
            assert "breaker_open" not in dom
            assert "coinfer_" not in dom
