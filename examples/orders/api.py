"""A small stand-in for a third-party order API: GET /orders/N answers "finished" or "not finished".

About half of the answers are "not finished". Orders 22, 56 and 77 never finish. Every seventh of the others
(7, 14, … 98) breaks the first two attempts with a 500. The same question gets the same answer: how often an
order says "not finished" is drawn from its number.
"""

import json
import random
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NEVER = {22, 56, 77}
FLAKY = set(range(7, 99, 7)) - NEVER
BROKEN_ATTEMPTS = 2
MOST_POLLS = 5
PORT = 8080

asked: Counter[tuple[int, str]] = Counter()
lock = threading.Lock()


def polls_until_finished(order: int) -> int:
    """Return which question about an order is the first to be answered with "finished": 1, 2, …

    Each answer is "not finished" with a chance of one half, so that half of all answers are.
    """
    draw = random.Random(f"order-{order}")
    polls = 1
    while polls < MOST_POLLS and draw.random() < 0.5:
        polls += 1
    return polls


def answer(order: int, attempt: str) -> tuple[int, dict[str, object]]:
    """Answer one question: HTTP status and body."""
    with lock:
        asked[order, attempt] += 1
        times = asked[order, attempt]
    if order in FLAKY and attempt.isdecimal() and int(attempt) <= BROKEN_ATTEMPTS:
        return 500, {"order": order, "error": "internal error"}
    finished = order not in NEVER and times >= polls_until_finished(order)
    return 200, {"order": order, "status": "finished" if finished else "not finished"}


class Handler(BaseHTTPRequestHandler):
    """GET /orders/N, with the attempt's number in the header X-Attempt."""

    def do_GET(self) -> None:
        """Answer a question about an order, or tell that the service is up."""
        order = re.fullmatch(r"/orders/(\d+)", self.path)
        if order:
            status, body = answer(int(order.group(1)), self.headers.get("X-Attempt", ""))
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
        """Keep quiet."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", PORT), Handler).serve_forever()
