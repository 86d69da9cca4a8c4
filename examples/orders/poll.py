"""The worker: polls one order until it is finished. The TaskType sets the deadline, not the worker."""

import json
import os
import sys
import time
import urllib.error
import urllib.request


def main() -> int:
    """Poll until the order is finished; return the exit code."""
    order = json.loads(os.environ["ASYNCFLOW_PAYLOAD"])["order"]
    pause = float(os.environ.get("POLL_SECONDS", "5"))
    request = urllib.request.Request(
        f"{os.environ['ORDER_API']}/orders/{order}",
        headers={
            "X-Attempt": os.environ["ASYNCFLOW_ATTEMPT"],
            "Idempotency-Key": os.environ["ASYNCFLOW_IDEMPOTENCY_KEY"],
        },
    )
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                status = json.load(response)["status"]
        except urllib.error.HTTPError as error:
            print(f"order {order}: the API returned {error.code}", file=sys.stderr)
            return 1
        except urllib.error.URLError as error:
            print(f"order {order}: failed to connect to the API: {error.reason}", file=sys.stderr)
            return 1
        print(f"order {order}: {status}", flush=True)
        if status == "finished":
            return 0
        time.sleep(pause)


if __name__ == "__main__":
    sys.exit(main())
