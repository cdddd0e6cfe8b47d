"""A small OpenAI-compatible server around a real model, as a process: token ids in, token ids out, and faults on demand.

    python tests/completions_server.py MODEL --port PORT [--name NAME] [--faults FILE] [--log FILE]

FILE lists faults, one a line: each request for a completion takes the first one off it and suffers it. So they outlive a restart.
What it has answered is logged, a line of JSON each.
"""

import argparse
import json
import os
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

SLOW = 3  # seconds


class Completions(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, arguments):
        super().__init__(("127.0.0.1", arguments.port), Handler)
        self.arguments, self.lock = arguments, threading.Lock()
        self.model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
        self.model.generation_config = GenerationConfig()

    def handle_error(self, request, client_address):
        pass  # clients that gave up

    def next_fault(self):
        path = self.arguments.faults
        with self.lock:
            lines = path.read_text().splitlines() if path else []
            if lines:
                path.write_text("".join(f"{line}\n" for line in lines[1:]))
        return lines[0] if lines else ""

    def complete(self, body):
        prompt, ends = body["prompt"], body["stop_token_ids"]
        sampling: dict[str, Any] = {"do_sample": False}
        if body["temperature"] > 0:
            sampling = {"do_sample": True, "temperature": body["temperature"], "top_p": body["top_p"], "top_k": 0}
        config = GenerationConfig(
            max_new_tokens=body["max_tokens"], eos_token_id=ends, pad_token_id=ends[0], **sampling
        )
        with self.lock, torch.inference_mode():
            torch.manual_seed(body["seed"])
            ids = torch.tensor([prompt])
            written = self.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        tokens = written[0, len(prompt) :].tolist()
        return tokens, "stop" if tokens[-1] in ends else "length"


class Handler(BaseHTTPRequestHandler):
    server: Completions
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        model = self.server.arguments.model
        card = {"id": self.server.arguments.name or model, "object": "model", "root": model, "max_model_len": 2048}
        if self.path == "/v1/models":
            self.say(200, {"object": "list", "data": [card]})
        elif self.path == "/version":
            self.say(200, {"version": "1.0"})
        else:
            self.say(404, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = self.server.next_fault()
        if fault == "exit":
            os._exit(7)
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        if fault == "half":
            self.half_closed()
            return
        if fault == "slow":
            time.sleep(SLOW)
        if fault in ("429", "500", "400"):
            self.say(int(fault), {"error": {"message": f"no: {self.headers['Authorization']}"}})
            return
        tokens, reason = self.server.complete(body)
        choice = {
            "index": 0,
            "text": "",
            "finish_reason": reason,
            "token_ids": tokens,
            "prompt_token_ids": body["prompt"],
        }
        if fault == "abort":  # as a server that is being stopped
            choice |= {"finish_reason": "abort", "token_ids": tokens[:1]}
        if fault == "text":  # a server that knows no token ids
            del choice["token_ids"], choice["prompt_token_ids"]
        if fault == "other":
            choice["prompt_token_ids"] = [0, *body["prompt"]]
        if self.say(200, {"id": "x", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}):
            self.note(body, fault)

    def note(self, body, fault):
        if path := self.server.arguments.log:
            with self.server.lock, path.open("a") as log:
                log.write(json.dumps(body | {"fault": fault}) + "\n")

    def say(self, status, body):
        content = json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:  # the client has given up
            return False
        return True

    def half_closed(self):
        """Promise more than is sent, then close."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(b'{"id": "x", "choices": [{"token_ids": [1, 2')
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name")
    parser.add_argument("--faults", type=Path)
    parser.add_argument("--log", type=Path)
    Completions(parser.parse_args()).serve_forever()


if __name__ == "__main__":
    main()
