"""`tract serve` without a model: its answers with scores that are a known function of the response's text.

Run:    python -m tests.stub_server [--port 8000]
In tests: `with Stub(faults=["429", "429"]) as stub: Client(stub.url)`.

It imports the standard library alone, so it also runs in the environments of other tools.
"""

import argparse
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VALUES = [1, 2, 3, 4, 5]
LABELS = ["1", "2", "3", "4", "5"]
MODEL = "stub"
MOST_ROWS = 64
DELIMITER = " So the overall score is "
UNSCORABLE, REFUSED = "<unscorable>", "<refused>"
"""In a response: the judge fails on the row; the row breaks a rule."""


class RowError(Exception):
    """A row breaks a rule: HTTP 400 and its index."""


def probabilities(response):
    """Of the labels: most on the number of words, counted round the scale; 2 % lie on other tokens."""
    likely = len(response.split()) % len(VALUES)
    return [0.9 if number == likely else 0.02 for number in range(len(VALUES))]


def expected_score(response):
    """What the judge says of a response; None where it fails."""
    if UNSCORABLE in response:
        return None
    return sum(p * value for p, value in zip(probabilities(response), VALUES, strict=True))


def verdict(row, index, num_samples):
    response = row["response"]
    score, probs = expected_score(response), probabilities(response)
    known = {"index": index, "id": row.get("id") or f"row-{index}", "num_samples": num_samples}
    if score is None:
        scores = ("expected_score", "expected_score_renormalized", "calibrated_score")
        nothing = (*scores, "probs", "label_mass", "sd_scale", "sd_cots", "cot")
        counts = {"cot_statuses": ["error"] * num_samples, "num_ok": 0}
        return {**known, "status": "error", "reason": "the model failed", **dict.fromkeys(nothing), **counts}
    return {
        **known,
        "status": "ok",
        "reason": None,
        "expected_score": score,
        "expected_score_renormalized": score / sum(probs),
        "calibrated_score": None,
        "probs": probs,
        "label_mass": sum(probs),
        "sd_scale": 0.5,
        "sd_cots": 0.0 if num_samples > 1 else None,
        "cot": f"It has {len(response.split())} words.",
        "cot_statuses": ["ok"] * num_samples,
        "num_ok": num_samples,
    }


def verdicts(body):
    """Of a request, in order; raises RowError."""
    seen = set()
    for index, row in enumerate(body["rows"]):
        full = {**body.get("rubric", {}), **row}
        if absent := [name for name in ("instruction", "response", "criteria", "descriptions") if name not in full]:
            raise RowError(f"has no {', '.join(absent)}", index)
        if len(full["descriptions"]) != len(VALUES) or REFUSED in full["response"]:
            raise RowError("breaks a rule", index)
        key = row.get("id") or json.dumps(full, sort_keys=True)
        if key in seen:
            raise RowError("repeats another row", index)
        seen.add(key)
    return [verdict(row, index, body.get("num_samples", 1)) for index, row in enumerate(body["rows"])]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        if self.path == "/v1/models":
            self._answer(200, {"object": "list", "data": [{"id": self.stub.model, "object": "model"}]})
        elif self.path == "/metrics":
            self._answer(200, f"tract_requests_total {len(self.stub.requests)}\n")
        else:
            self._answer(200 if self.path == "/health" else 404, {"status": "ok"})

    def do_POST(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        with self.stub.lock:
            self.stub.requests.append(json.loads(content))
            fault = self.stub.faults.pop(0) if self.stub.faults else None
            self.stub.at_once += 1
            self.stub.most_at_once = max(self.stub.most_at_once, self.stub.at_once)
        self._after(fault, content)

    def _after(self, fault, content):
        if self.stub.api_key and self.headers.get("Authorization") != f"Bearer {self.stub.api_key}":
            self._refuse(401, "the API key is missing or wrong")
        elif fault in ("429", "503"):
            self._refuse(int(fault), "busy", retry_after=self.stub.retry_after)
        elif fault == "cut":
            self._cut()
        else:
            if fault == "slow":
                time.sleep(self.stub.slow)
            self._judge(json.loads(content))

    @property
    def stub(self):
        return self.server.stub

    def _judge(self, body):
        if self.path == "/v1/chat/completions":
            self._answer(200, _chat(body))
        elif self.path != "/v1/tract/score":
            self._refuse(404, "Not Found")
        elif len(body["rows"]) > self.stub.most_rows:
            self._refuse(413, f"{len(body['rows'])} rows; at most {self.stub.most_rows} are taken at once")
        else:
            try:
                data = verdicts(body)
            except RowError as error:
                self._refuse(400, error.args[0], row=error.args[1])
                return
            if self.headers.get("Accept") == "application/x-ndjson":
                self._answer(200, "".join(json.dumps(one) + "\n" for one in reversed(data)))
            else:
                scale, usage = {"values": VALUES, "labels": LABELS}, {"prompt_tokens": 0, "completion_tokens": 0}
                whole = {"object": "list", "model": self.stub.model, "scale": scale, "data": data, "usage": usage}
                self._answer(200, whole)

    def _refuse(self, status, message, *, row=None, retry_after=None):
        error = {"message": message, "type": "error", **({} if row is None else {"row": row})}
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._answer(status, {"error": error}, headers)

    def _answer(self, status, content, headers=()):
        text = content if isinstance(content, str) else json.dumps(content)
        self._leave()
        self.send_response(status)
        for name, value in {"Content-Length": len(text.encode()), "Connection": "close", **dict(headers)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(text.encode())
        self.close_connection = True

    def _leave(self):
        """A request counts no more before its answer is sent: whoever has the answer may send the next at once."""
        if self.command == "POST":
            with self.stub.lock:
                self.stub.at_once -= 1

    def _cut(self):
        """Half an answer, and no more."""
        self._leave()
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"object": "list", ')
        self.wfile.flush()
        self.close_connection = True


def _chat(body):
    """The OpenAI-compatible answer to a whole prompt of the judge's."""
    prompt = next(one["content"] for one in reversed(body["messages"]) if one["role"] == "user")
    label = LABELS[len(prompt.split()) % len(LABELS)]
    message = {"role": "assistant", "content": f"It has {len(prompt.split())} words.{DELIMITER}{label}"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return {"id": "stub-1", "object": "chat.completion", "created": 0, "model": MODEL, "choices": [choice]}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that left is no error of the stub's."""


class Stub:
    """A server on the loopback.

    faults: what happens to the first requests, one each: "429", "503", "cut", "slow" (`slow` seconds), None.
    requests: the bodies of all requests, those that met a fault among them; most_at_once: how many overlapped.
    """

    def __init__(self, *, faults=(), api_key=None, retry_after=None, slow=0.5, most_rows=MOST_ROWS, port=0):
        self.faults, self.api_key, self.retry_after = list(faults), api_key, retry_after
        self.slow, self.most_rows, self.model = slow, most_rows, MODEL
        self.requests, self.lock = [], threading.Lock()
        self.at_once = self.most_at_once = 0
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.stub = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exception):
        self._server.shutdown()
        self._server.server_close()

    @property
    def num_rows(self):
        """Rows in all requests."""
        return sum(len(body["rows"]) for body in self.requests)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    with Stub(port=parser.parse_args().port) as running:
        print(running.url, flush=True)
        threading.Event().wait()
