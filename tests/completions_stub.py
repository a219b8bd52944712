"""vLLM's `/v1/completions` as far as the HTTP engine asks for it, on a tiny model, with faults on demand."""

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import torch


class Stub:
    """One server; `faults` are taken one by one before its next answers: a status, `cut`, or None for no fault.

    It fails with status 500 on each question of which `fails` is true.
    """

    def __init__(self, model, name, *, drawn=(), max_model_len=2048):
        self.model, self.name, self.drawn, self.max_model_len = model, name, list(drawn), max_model_len
        self.faults, self.asked, self.changes = [], [], lambda answer, body: answer
        self.fails = lambda body: False
        self.lock = threading.Lock()

    def completion(self, body):
        if "logprob_token_ids" not in body:
            return {"token_ids": self.drawn, "finish_reason": "stop"}
        with self.lock, torch.inference_mode():
            logprobs_V = self.model(torch.tensor([body["prompt"]])).logits[0, -1].double().log_softmax(-1)
        found = {f"token_id:{token}": logprobs_V[token].item() for token in body["logprob_token_ids"]}
        return {"token_ids": [7], "finish_reason": "length", "logprobs": {"top_logprobs": [found]}}

    @contextlib.contextmanager
    def running(self):
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                models = [{"id": stub.name, "max_model_len": stub.max_model_len}]
                self.answer(200, {"data": models})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                stub.asked.append({**body, "authorization": self.headers.get("Authorization")})
                fault = stub.faults.pop(0) if stub.faults else 500 if stub.fails(body) else None
                if fault == "cut":
                    self.connection.close()
                elif fault is not None:
                    self.answer(fault, {"error": {"message": f"fault {fault}"}})
                else:
                    self.answer(200, stub.changes({"choices": [stub.completion(body)]}, body))

            def answer(self, status, content):
                data = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
