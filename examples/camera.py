"""A camera's frames to the device daemon: ten a second, each by the daemon's own deadline.

    coinfer device --config device.toml
    python examples/camera.py http://127.0.0.1:8700 [SECONDS]

The client needs nothing but `coinfer`: no torch, no numpy. Here the frames are drawn; a camera
gives JPEGs. A frame may bring a deadline of its own: `client.infer(picture, deadline_s=0.2)`. Where
it differs by more than 10 % from the scenario's, Algorithm 1 decides in place of most controllers.
"""

import io
import sys
import time
from collections import Counter

from PIL import Image

from coinfer import Client, DeviceError

INTERVAL_S = 0.1


def frame(number: int) -> bytes:
    """A JPEG of 160 x 160 whose colours change."""
    picture = Image.new("RGB", (160, 160), (5 * number % 256, 80, 160))
    written = io.BytesIO()
    picture.save(written, format="JPEG", quality=85)
    return written.getvalue()


def main(address: str, seconds: float = 3.0) -> None:
    """Send, and say where the answers came from."""
    answers: Counter[str] = Counter()
    with Client(address) as client:
        for number in range(int(seconds / INTERVAL_S)):
            due_s = time.monotonic() + INTERVAL_S
            try:
                answer = client.infer(frame(number))
                answers[f"exit {answer.exit} on the {answer.where}"] += 1
            except DeviceError as error:
                answers[str(error)] += 1
            time.sleep(max(due_s - time.monotonic(), 0.0))
    for what, count in answers.most_common():
        print(f"{count} frames: {what}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/camera.py ADDRESS [SECONDS]")
    main(sys.argv[1], *map(float, sys.argv[2:3]))
