"""Serve an exported policy on this machine: needs `jax` and `flatbuffers`, not this package. One row for each robot.

python examples/policy_server.py policy.stablehlo 8000, and then
curl -d '{"histories": [[[...], [...]]], "last": [[256, 256]]}' http://127.0.0.1:8000
"""

import json
import secrets
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

import jax
import numpy as np


def main(path: str, port: str = "8000") -> None:
    program = jax.export.deserialize(bytearray(np.fromfile(path, np.uint8)))
    act = jax.jit(program.call)  # compiled for each number of rows; for one row before the first question
    act(*(np.zeros((1, *given.shape[1:]), given.dtype) for given in program.in_avals))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            try:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                keys = [[0, seed] for seed in asked.get("seeds") or [secrets.randbits(32) for _ in asked["last"]]]
                given = zip((asked["histories"], asked["last"], keys), program.in_avals, strict=True)
                status, answer = 200, {"actions": act(*(np.array(x, like.dtype) for x, like in given)).tolist()}
            except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
                status, answer = 400, {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    server = HTTPServer(("127.0.0.1", int(port)), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
