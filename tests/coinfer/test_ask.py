"""`coinfer ask`: what is sent of a file, what is said of an answer, and the picture with boxes."""

import http.server
import json
import threading

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from artefacts import ArtefactError, UsageError
from coinfer.cli.app import app
from coinfer.cli.running.ask import said
from controller.daemon.client_messages import Inference

WHERE = {"confidence": 0.8, "exit": 2, "plan": "exit 2 on the device", "where": "device"}
FOUND = {
    "detections": [
        {"box": [0.25, 0.25, 0.75, 0.75], "label": 1, "class": "square", "score": 0.9},
        {"box": [0.0, 0.0, 0.2, 0.2], "label": 0, "class": "circle", "score": 0.6},
    ]
}


@pytest.fixture
def device():
    """A server that gives one answer, and keeps what it was sent."""
    kept = {"answer": FOUND | WHERE | {"latency_ms": 12.5}, "sent": []}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            kept["sent"].append((self.path, self.headers["Content-Type"], body))
            refusal = kept["statuses"].pop(0) if kept.get("statuses") else 200
            answer = kept["answer"] if refusal == 200 else {"error": f"status {refusal}"}
            given = json.dumps(answer).encode()
            self.send_response(kept.get("status", refusal))
            self.send_header("Content-Length", str(len(given)))
            self.end_headers()
            self.wfile.write(given)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        kept["address"] = f"http://127.0.0.1:{server.server_port}"
        yield kept
        server.shutdown()
        thread.join()


def ask(device, *more):
    return CliRunner().invoke(app, ["ask", *more, "--device", device["address"]])


def one_line(done):
    return " ".join((done.output + str(done.exception or "")).split())


def test_boxes_are_said_and_drawn(device, tmp_path):
    Image.new("RGB", (100, 100), "white").save(tmp_path / "a.jpg", quality=95)
    done = ask(device, str(tmp_path / "a.jpg"), "--draw", str(tmp_path / "b.png"))
    assert done.exit_code == 0, one_line(done)
    assert "square, 90.0 % at 0.250 0.250 0.750 0.750" in done.output
    assert "exit 2 on the device, confidence 0.800, 12.5 ms" in one_line(done)
    assert device["sent"][0][2] == (tmp_path / "a.jpg").read_bytes()  # as it is
    drawn = np.asarray(Image.open(tmp_path / "b.png"))
    assert drawn.shape == (100, 100, 3)
    assert np.ptp(drawn[74, 50]) > 50  # the frame has a colour
    assert np.ptp(drawn[50, 50]) < 10  # within it nothing


def test_a_class_s_name_makes_no_line_of_its_own(device, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    forged = "circle\nexit 3 on the edge, confidence 1.000"
    boxes = [FOUND["detections"][0] | {"class": forged}]
    device["answer"] = {"detections": boxes, "latency_ms": 1.0} | WHERE
    done = ask(device, str(tmp_path / "a.jpg"))
    assert done.exit_code == 0, one_line(done)
    assert len(done.output.splitlines()) == 2
    assert "circle\\nexit 3" in done.output


def test_a_picture_of_another_form_is_sent_as_a_jpeg(device, tmp_path):
    Image.new("RGB", (40, 30), (9, 200, 9)).save(tmp_path / "a.png")
    done = ask(device, str(tmp_path / "a.png"), "--deadline-ms", "80", "--json")
    assert json.loads(done.stdout)["outputs"]["names"] == ["square", "circle"]
    path, kind, body = device["sent"][0]
    assert "deadline_ms=80" in path
    assert kind == "image/jpeg"
    assert body[:2] == b"\xff\xd8"


def test_texts_and_arrays_are_sent_as_such(device, tmp_path):
    device["answer"] = WHERE | {"label": 1, "class": "good", "latency_ms": 1}
    assert "class 1 (good)" in ask(device, "a fine day", "--text").output
    assert b"a fine day" in device["sent"][0][2]
    np.savez(tmp_path / "x.npz", features=np.zeros((2, 3), np.float32))
    assert ask(device, str(tmp_path / "x.npz")).exit_code == 0
    assert b'"features"' in device["sent"][1][2]


@pytest.mark.parametrize(
    ("name", "content", "more", "line"),
    [
        (
            "a.txt",
            b"nothing",
            [],
            "found what is no picture, expected a picture, a .wav or an .npz",
        ),
        ("none.jpg", None, [], "none.jpg"),
        ("a.npz", b"PK", [], "a.npz"),
        ("words", None, ["--text", "--draw", "b.png"], "--draw: found 'words', expected a picture"),
    ],
)
def test_what_cannot_be_asked_is_one_line(device, tmp_path, name, content, more, line):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    done = ask(device, name if "--text" in more else str(path), *more)
    assert done.exit_code != 0
    assert line in one_line(done)
    assert not device["sent"]


def test_what_cannot_be_drawn_is_one_line(device, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    done = ask(device, str(tmp_path / "a.jpg"), "--draw", str(tmp_path / "b.doc"))
    assert "b.doc', expected a picture's file" in one_line(done)
    device["answer"] = WHERE | {"label": 1, "class": "good", "latency_ms": 1}
    done = ask(device, str(tmp_path / "a.jpg"), "--draw", str(tmp_path / "b.png"))
    assert "--draw: found an answer of a class, expected boxes" in one_line(done)
    assert not (tmp_path / "b.png").exists()


def test_a_refusal_and_nobody_there_are_one_line(device, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    device["status"], device["answer"] = 503, {"error": "full"}
    assert "full" in one_line(ask(device, str(tmp_path / "a.jpg")))
    device["address"] = "http://127.0.0.1:9"
    done = ask(device, str(tmp_path / "a.jpg"))
    assert "http://127.0.0.1:9: " in one_line(done)


def test_labels_vectors_and_nothing_are_said():
    def lines(outputs):
        return said(Inference(None, 0.5, 1, "p", "device", 0.001, None, outputs))[:-1]

    # of several labels there are flags and scores of all, and names of those that are given
    flags = {"labels": np.array([0, 1], np.uint8), "scores": np.array([0.1, 0.7]), "names": ["b"]}
    assert lines(flags) == ["b, 70.0 %"]
    assert lines({"boxes": np.zeros((0, 4)), "labels": [], "scores": []}) == ["nothing found"]
    assert lines({"vector": np.arange(9.0)})[0].endswith(
        "(9,): 0.0 1.0 2.0 3.0 4.0 5.0 6.0 7.0 ..."
    )


def pictures(folder, *names):
    folder.mkdir(exist_ok=True)
    for k, name in enumerate(names):
        Image.new("RGB", (40, 30), (60 * k, 9, 9)).save(folder / name)
    return [str(folder / name) for name in names]


def test_of_several_files_each_is_a_line(device, tmp_path):
    done = ask(device, *pictures(tmp_path / "p", "b.png", "a.jpg"))
    assert done.exit_code == 0, one_line(done)
    lines = done.stdout.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        str(tmp_path / "p" / name) for name in ("b.png", "a.jpg")
    ]
    assert all("square, 90.0 %" in line and "exit 2 on the device" in line for line in lines)
    assert len(device["sent"]) == 2


def test_a_bad_file_says_so_on_its_line_and_the_others_are_answered(device, tmp_path):
    good = pictures(tmp_path / "p", "a.jpg", "c.jpg")
    (tmp_path / "p" / "b.jpg").write_bytes(b"nothing")
    device["statuses"] = [200, 504]  # the daemon has no answer in time to the last
    done = ask(device, good[0], str(tmp_path / "p" / "b.jpg"), "none.jpg", good[1])
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert "square" in lines[0]
    assert lines[1].startswith(f"{tmp_path / 'p' / 'b.jpg'}: found what is no picture")
    assert lines[2].startswith("none.jpg: ")
    assert lines[3] == f"{good[1]}: {device['address']}: status 504"
    assert len(lines) == 4


def test_a_folder_is_its_samples_by_name(device, tmp_path):
    pictures(tmp_path / "p", "b.jpg", "a.png")
    np.savez(tmp_path / "p" / "c.npz", features=np.zeros(3, np.float32))
    (tmp_path / "p" / "notes.txt").write_text("no sample")
    done = ask(device, str(tmp_path / "p"), "--json")
    assert done.exit_code == 0, one_line(done)
    found = json.loads(done.stdout)
    assert [one["sample"].rpartition("/")[2] for one in found] == ["a.png", "b.jpg", "c.npz"]
    assert found[0]["outputs"]["names"] == ["square", "circle"]
    (tmp_path / "empty").mkdir()
    done = ask(device, str(tmp_path / "empty"))
    assert isinstance(done.exception, ArtefactError)
    assert "found a folder without samples" in one_line(done)


def test_a_folder_of_one_is_a_line_and_an_error_is_in_the_json(device, tmp_path):
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.jpg").write_bytes(b"nothing")
    done = ask(device, str(tmp_path / "p"), "--json")
    assert done.exit_code == 1
    assert "no picture" in json.loads(done.stdout)[0]["error"]


def test_several_are_drawn_into_a_folder(device, tmp_path):
    files = pictures(tmp_path / "p", "a.jpg", "b.png")
    done = ask(device, *files, "--draw", str(tmp_path / "drawn"))
    assert done.exit_code == 0, one_line(done)
    assert {p.name for p in (tmp_path / "drawn").iterdir()} == {"a.jpg", "b.png"}
    assert (tmp_path / "drawn" / "b.png").read_bytes()[:4] == b"\x89PNG"
    again = ask(device, *files, "--draw", str(tmp_path / "p" / "a.jpg"))
    assert "expected a folder for several samples" in one_line(again)
    twice = ask(device, files[0], *pictures(tmp_path / "q", "a.jpg"), "--draw", str(tmp_path / "d"))
    assert "--draw: found two samples called 'a.jpg'" in one_line(twice)
    assert len(device["sent"]) == 2


def test_no_sample_is_drawn_over(device, tmp_path):
    files = pictures(tmp_path / "p", "a.jpg", "b.png")
    before = [(tmp_path / "p" / name).read_bytes() for name in ("a.jpg", "b.png")]
    for samples, draw in ((files, "p"), ([str(tmp_path / "p")], "p"), (files[:1], "p/a.jpg")):
        done = ask(device, *samples, "--draw", str(tmp_path / draw))
        assert "expected another place (the sample would be lost)" in one_line(done)
    assert [(tmp_path / "p" / name).read_bytes() for name in ("a.jpg", "b.png")] == before
    assert not device["sent"]


def test_several_texts_are_asked_one_by_one(device):
    device["answer"] = WHERE | {"label": 1, "class": "good", "latency_ms": 1}
    done = ask(device, "a fine day", "a bad day", "--text")
    assert done.stdout.splitlines()[1].startswith("a bad day: class 1 (good); exit 2")
    assert b"a bad day" in device["sent"][1][2]


def test_nobody_there_ends_it_at_once(device, tmp_path):
    files = pictures(tmp_path / "p", "a.jpg", "b.jpg")
    device["address"] = "http://127.0.0.1:9"
    done = ask(device, *files)
    assert isinstance(done.exception, UsageError)
    assert one_line(done).count("http://127.0.0.1:9: ") == 1


def test_an_answer_without_a_box_is_sure_of_nothing(device, tmp_path):
    device["answer"] = {"detections": [], "best_score": 0.034, "latency_ms": 1.0} | WHERE
    file = pictures(tmp_path / "p", "a.jpg")[0]
    done = ask(device, file)
    assert "nothing found (the most likely box has 3.4 %)" in done.stdout
    assert "confidence" not in done.stdout
    assert json.loads(ask(device, file, "--json").stdout)["best_score"] == pytest.approx(0.034)
    del device["answer"]["best_score"]  # an older daemon does not say it
    assert "nothing found\n" in ask(device, file).stdout
