"""The operator of a run, and those that came before it: each is killed and followed by another."""

from performance.environment import Environment
from performance.usage import Memory, cpu_seconds, memory_kib
from support.operator_process import LEADING, OperatorProcess

SETTINGS = {
    **LEADING,
    "ASYNCFLOW_SPLIT_SECONDS": "2",
    "ASYNCFLOW_STUCK_SECONDS": "10",
    "ASYNCFLOW_ROLL_SECONDS": "10",
    "ASYNCFLOW_REQUEST_SECONDS": "10",
}


class Operators:
    """One operator after another, and what all of them have used."""

    def __init__(self, environment: Environment) -> None:
        self.memory_mib: float = 0
        """The largest resident set of an operator."""
        self.cpu_seconds: float = 0
        """Of all together."""
        self.kills = 0
        self._environment = environment
        self._process: OperatorProcess | None = None

    def start(self) -> None:
        """Start an operator that nobody has known before."""
        self._process = self._environment.new_operator(SETTINGS)
        self._process.start(wait=False)

    def kill(self) -> None:
        """End it without a word, and start another."""
        self.kills += 1
        self.note_usage()
        assert self._process is not None
        self._process.kill()
        self.start()

    def note_usage(self) -> None:
        """Add what the present one has used."""
        assert self._process is not None
        self.cpu_seconds += cpu_seconds(self._process.pid)
        self.memory_mib = max(self.memory_mib, memory_kib(self._process.pid, Memory.PEAK) / 1024)

    def stop(self) -> None:
        """End it in order."""
        if self._process is not None:
            self._process.stop()
