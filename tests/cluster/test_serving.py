"""`dalle serve --ray` paints on the workers of a cluster."""

import base64
import http.client
import io
import json
import signal
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from .conftest import Machines


def test_a_server_paints_on_workers(machines: Machines):
    server = machines.start("serve", "--port", "0", "-q")
    assert server.stdout is not None
    port = int(server.stdout.readline().rpartition(":")[2].partition("/")[0])
    assert len(machines.workers()) == len(machines.cluster.list_all_nodes())

    def ask(seed: int) -> Image.Image:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        body = {"prompt": "a red car", "seed": seed, "response_format": "b64_json", "size": "256x256"}
        connection.request("POST", "/v1/images/generations", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        found = json.loads(answer.read())
        assert answer.status == 200, found
        return Image.open(io.BytesIO(base64.b64decode(found["data"][0]["b64_json"])))

    with ThreadPoolExecutor(8) as callers:
        pictures = list(callers.map(ask, range(8)))
    assert all(picture.size == (256, 256) for picture in pictures)
    server.send_signal(signal.SIGTERM)
    _, err = server.communicate(timeout=60)
    assert server.returncode == 0, err
