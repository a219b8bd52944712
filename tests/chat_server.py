"""A chat completion server on 127.0.0.1, for what asks an endpoint."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = "sk-a-secret-that-must-not-be-written"
KEY_VARIABLE = "META_JUDGE_KEY"


class Server:
    """Gives its replies in turn, the last one again and again; `statuses` come before `status`, one each."""

    def __init__(self):
        self.replies, self.status, self.statuses, self.seen, self.lock = ["Rating: 4"], 200, [], [], threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.seen.append({"path": self.path, "key": self.headers["Authorization"], **body})
                    status = outer.statuses.pop(0) if outer.statuses else outer.status
                payload = outer.payload(body) if status in (200, outer.status) else b"{}"
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.send_header("retry-after-ms", "1")
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def payload(self, body):
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if callable(reply):  # of the question
            reply = reply(body["messages"][-1]["content"])
        if isinstance(reply, bytes):
            return reply
        return json.dumps(reply if isinstance(reply, dict) else completion(reply)).encode()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


def completion(content, *, tokens=None, finish_reason="stop"):
    """`tokens`: (text, {other text: log-probability}) of each, its own among the others or not."""
    message = {"role": "assistant", "content": content}
    found = None if tokens is None else {"content": [_token(text, others) for text, others in tokens]}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, "logprobs": found}
    usage = {"prompt_tokens": 1, "completion_tokens": 7, "total_tokens": 8}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage}


def _token(text, others):
    listed = [{"token": one, "logprob": p, "bytes": list(one.encode())} for one, p in others.items()]
    return {"token": text, "logprob": others.get(text, -0.01), "bytes": list(text.encode()), "top_logprobs": listed}
