"""A mock of a third-party order API: GET /orders/N responds with the status "finished" or "not finished".

About half of the responses are "not finished". Orders 22, 56 and 77 never finish. Every seventh of the others
(7, 14, … 98) responds to the first two attempts with a 500. Responses are deterministic: the number of polls
until an order is finished is derived from the number of the order.
"""

import json
import random
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NEVER_FINISHED = {22, 56, 77}
FLAKY = set(range(7, 99, 7)) - NEVER_FINISHED
FAILED_ATTEMPTS = 2
MAX_POLLS = 5
PORT = 8080

polls_of: Counter[tuple[int, str]] = Counter()
lock = threading.Lock()


def polls_until_finished(order: int) -> int:
    """Return the number of the first poll of an order, from 1, whose response is "finished".

    Each response is "not finished" with a probability of one half.
    """
    generator = random.Random(f"order-{order}")
    polls = 1
    while polls < MAX_POLLS and generator.random() < 0.5:
        polls += 1
    return polls


def respond(order: int, attempt: str) -> tuple[int, dict[str, object]]:
    """Return the HTTP status and the body for a poll of an order."""
    with lock:
        polls_of[order, attempt] += 1
        polls = polls_of[order, attempt]
    if order in FLAKY and attempt.isdecimal() and int(attempt) <= FAILED_ATTEMPTS:
        return 500, {"order": order, "error": "internal error"}
    finished = order not in NEVER_FINISHED and polls >= polls_until_finished(order)
    return 200, {"order": order, "status": "finished" if finished else "not finished"}


class Handler(BaseHTTPRequestHandler):
    """Serves GET /orders/N, with the number of the attempt in the header X-Attempt, and GET /healthz."""

    def do_GET(self) -> None:
        """Respond to a poll of an order or to a readiness probe."""
        order = re.fullmatch(r"/orders/(\d+)", self.path)
        if order:
            status, body = respond(int(order.group(1)), self.headers.get("X-Attempt", ""))
        elif self.path == "/healthz":
            status, body = 200, {"status": "ok"}
        else:
            status, body = 404, {"error": "GET /orders/N"}
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Log no requests."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()
