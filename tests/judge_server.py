"""A fake judge over real HTTP: what it does with a problem stands in the problem's text."""

import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from rsr.features.judge import CRITERIA

KEY = "sk-a-key-that-nobody-may-see"  # what it is asked with (`tests.conftest.judge_server`)


def judgement(overall=0.7, **of):
    scores = dict(zip(CRITERIA, (0.9, 0.8, 0.7, 0.6, 0.5), strict=True)) | of
    return {
        "dimensional_evaluation": {name: {"score": score, "reason": "so"} for name, score in scores.items()},
        "overall_score": overall,
        "overall_reason": "so",
    }


# What is answered, by the name that a problem spells as <<name>>.
ANSWERS = {
    "good": json.dumps(judgement()),
    "fenced": f"<think>Is {{it}} right?</think>\nHere it is:\n```json\n{json.dumps(judgement(0.4), indent=1)}\n```\nDone.",
    "zero": json.dumps(judgement(0)),
    "broken": json.dumps(judgement())[:-30],
    "prose": "It is quite good.",
    "above": json.dumps(judgement(7)),
    "percent": json.dumps(judgement(0.7, logical_rigor=80)),
    "words": json.dumps(judgement("high")),
    "true": json.dumps(judgement(True)),
    "empty": "",
    # On answers: `rsr.grading.answer_judge`.
    "right": json.dumps({"answer": "2", "verdict": "right"}),
    "wrong": 'It says 3.\n```json\n{"answer": "3", "verdict": "wrong"}\n```',
    "none": json.dumps({"answer": "", "verdict": "none"}),
    "unsure": json.dumps({"answer": "2", "verdict": ["right"]}),
}


class Judge(ThreadingHTTPServer):
    """Serves on a free port; `calls` counts by name, `bodies` and `keys` are what it was sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.calls: Counter[str] = Counter()
        self.bodies: list[Any] = []
        self.keys: set[Any] = set()
        self.mended = set()  # names that are answered well from now on
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        pass  # clients that gave up


class Handler(BaseHTTPRequestHandler):
    server: Judge

    def log_message(self, *arguments):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        (name,) = re.findall(r"<<(\w+)>>", body["messages"][0]["content"])
        server = self.server
        server.bodies.append(body)
        server.keys.add(self.headers["Authorization"])
        server.calls[name] += 1
        first = server.calls[name] == 1
        if name in server.mended:
            self.answer(ANSWERS["right" if "<reference>" in body["messages"][0]["content"] else "good"])
        elif name == "busy" and first:
            self.status(429, {"Retry-After": "1"})
        elif name == "shaky" and first:
            self.status(500)
        elif name in ("down", "refused_key", "forbidden"):
            self.status({"down": 500, "refused_key": 401, "forbidden": 400}[name])
        elif name == "slow":
            time.sleep(3)
        elif name == "half":
            self.half_closed()
        elif name == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        else:
            self.answer(ANSWERS.get(name, ANSWERS["good"]))

    def answer(self, text):
        message = {"role": "assistant", "content": text}
        self.status(200, body={
            "id": "x", "object": "chat.completion", "created": 0, "model": "judge",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100},
        })  # fmt: skip

    def status(self, code, headers=None, body=None):
        # A server that repeats the key in its error, as some do.
        content = json.dumps(body or {"error": {"message": f"no: {self.headers['Authorization']}"}}).encode()
        self.send_response(code)
        for key, value in {
            "Content-Type": "application/json",
            "Content-Length": len(content),
            **(headers or {}),
        }.items():
            self.send_header(key, str(value))
        self.end_headers()
        self.wfile.write(content)

    def half_closed(self):
        """Promise more than is sent, then close."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(b'{"id": "x", "choices": [{"message": {"content": "')
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
