"""What the processes of one training tell each other beside their work: that they live, how far they are, and why one stopped.

They meet in a key-value store of torch.distributed. A thread of each says every BEAT seconds that its process lives, and looks
whether the next one does. The first failure is written down once; every other process then stops with its exit code, also one
that waits for what will never come.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any

from hounsfield.core.errors import DivergedError, HounsfieldError, InputError, ResourceError, RunInterruptedError
from hounsfield.workflow.processes.place import Place

BEAT = 2.0  # seconds between signs of life
LOST = 30.0  # seconds without one after which a process counts as dead
PATIENCE = 50.0  # seconds for which a process whose neighbour has gone waits for the cause
MEETING = 600.0  # seconds until all processes have been started
FAILED = "failed"

KINDS = {kind.exit_code: kind for kind in (InputError, ResourceError, DivergedError, RunInterruptedError)}
AGREED = (DivergedError.exit_code, RunInterruptedError.exit_code)  # what all processes raise at the same step


@dataclass(frozen=True)
class Failure:
    """Why a training of several processes ended. rank: of the process that failed, -1 for the one that started the others.
    exit_code: see core.errors; 1 for a fault, which `found` then tells. training: whether it failed in training, when the
    process is worth naming."""

    rank: int
    exit_code: int
    found: str
    code: str = ""
    where: str = ""
    expected: str = ""
    fix: str = ""
    training: bool = False

    @classmethod
    def of(cls, error: BaseException, rank: int, training: bool = False) -> Failure:
        if not isinstance(error, HounsfieldError):
            said = next(iter(str(error).splitlines()), "")[:300]
            return cls(rank, 1, f"{type(error).__name__}: {said}", training=training)
        return cls(rank, error.exit_code, error.found, error.code, error.where, error.expected, error.fix, training)

    def error(self) -> Exception:
        """What the user is to read."""
        if self.exit_code not in KINDS:
            return RuntimeError(f"rank {self.rank}: {self.found}")
        named = self.training and self.exit_code not in AGREED
        where = f"rank {self.rank}: {self.where}" if named else self.where
        return KINDS[self.exit_code](self.code, where, found=self.found, expected=self.expected, fix=self.fix)


def lost(rank: int, found: str) -> ResourceError:
    """Of a process that said nothing; -1 for the one that started the others."""
    return ResourceError(
        "RANK_LOST",
        "the process that started the others" if rank < 0 else f"rank {rank}",
        found=found,
        expected="all processes until the end",
        fix="look for memory that ran out or a machine that failed, then continue with --resume",
    )


def meet(place: Place, *, host: bool) -> Any:
    """A connection to the store of all processes. host: this is the process that keeps it."""
    distributed: Any = import_module("torch.distributed")
    store = distributed.TCPStore(
        place.address,
        place.port,
        world_size=None,
        is_master=host,
        timeout=timedelta(seconds=MEETING),
        wait_for_workers=False,
    )
    return distributed.PrefixStore(f"hounsfield-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def told(store: Any) -> Failure | None:
    """The failure that some process wrote down."""
    text = _read(store, FAILED)
    return Failure(**json.loads(text)) if text else None


class Vigil:
    """Of the process at `place`. training: whether it has begun to train."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.training = False
        self.store = meet(place, host=place.rank == 0 and not place.hosted)
        self._own = meet(place, host=False)  # of the thread: a connection serves one request at a time
        self._handling, self._ended = threading.Event(), threading.Event()
        self._seen: Failure | None = None  # by the thread
        self._thread = threading.Thread(target=self._watch, name="vigil", daemon=True)
        self._thread.start()

    def tell(self, key: str, value: str = "1") -> None:
        self.store.set(key, value)

    def ask(self, key: str) -> str:
        """What another process tells under this key, once it does; where none will, the thread ends this process."""
        while not (value := _read(self.store, key)):
            time.sleep(0.05)
        return value

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Tells the others why the block failed. One process raises what the user is to read, all others SystemExit."""
        try:
            yield
            self._say("done")
            self._wait_for_others(LOST)
        except BaseException as error:
            self._handling.set()
            spoken = self._spoken(error)
            self._wait_for_others(4 * BEAT)
            raise spoken from None
        finally:
            self._ended.set()
            self._thread.join(2 * BEAT)
            self._say("done")

    def _spoken(self, error: BaseException) -> BaseException:
        """What this process raises for what it caught."""
        mine = self._failure_of(error)
        cause = None
        if mine.exit_code in AGREED and self.place.rank != 0:
            cause = self._cause()  # the one that leads may save before it tells
        elif _of_a_collective(error):
            cause = self._cause(PATIENCE)
        failure = cause or self._first(mine)
        if self._speaks(failure):
            return failure.error() if failure.training or failure != mine else error
        if failure == mine and (mine.exit_code not in KINDS or "HOUNSFIELD_DEBUG" in os.environ):
            traceback.print_exception(error)
        return SystemExit(failure.exit_code)

    def _speaks(self, failure: Failure) -> bool:
        """Whether this process tells the user: that of rank 0, unless it is dead."""
        speaker = self.place.size - 1 if failure.rank == 0 and failure.code == "RANK_LOST" else 0
        return self.place.rank == speaker and not self.place.told

    def _failure_of(self, error: BaseException) -> Failure:
        if isinstance(error, KeyboardInterrupt):
            error = RunInterruptedError("INTERRUPTED", "train", found="Ctrl-C", expected="the end", fix="start again")
        return Failure.of(error, self.place.rank, self.training)

    def _first(self, failure: Failure) -> Failure:
        """Writes a failure down where there is none yet; returns the one that was first."""
        with suppress(Exception):  # the store may have gone with its process
            return Failure(**json.loads(self.store.compare_set(FAILED, "", json.dumps(asdict(failure)))))
        return failure

    def _cause(self, seconds: float = math.inf) -> Failure | None:
        """The failure that another process writes down, or this one's thread sees; None where it takes longer."""
        until = time.monotonic() + seconds
        while self._seen is None and time.monotonic() < until:
            time.sleep(0.1)
        return self._seen

    def _watch(self) -> None:
        """Until the work has ended, or a failure is seen."""
        next_rank = (self.place.rank + 1) % self.place.size
        seen, since = "", time.monotonic()
        looked = since
        while not self._ended.is_set() and self._seen is None:
            try:
                now = time.monotonic()
                stood_still, looked = now - looked > LOST / 2, now  # this process itself, or all of them
                self._own.set(f"beat/{self.place.rank}", str(now))
                beat = _read(self._own, f"beat/{next_rank}")
                if beat != seen or beat == "done" or stood_still:
                    seen, since = beat, now
                silent = now - since
                if silent > (LOST if beat else MEETING):
                    failure = Failure.of(lost(next_rank, f"no sign of life for {silent:.0f} s"), next_rank)
                    self._own.compare_set(FAILED, "", json.dumps(asdict(failure)))
                self._seen = told(self._own)
            except Exception:
                gone = -1 if self.place.hosted else 0
                self._seen = Failure.of(lost(gone, "no sign of life any more"), gone)
            self._ended.wait(0.0 if self._seen else BEAT)
        if self._seen is not None and not self._ended.is_set():
            self._leave(self._seen)

    def _leave(self, failure: Failure) -> None:
        """End this process, whatever it waits for, unless it is about to end by itself."""
        if self._handling.wait(BEAT) or self._ended.is_set():
            return
        if self._speaks(failure):
            sys.stderr.write(f"{failure.error()}\n")
            sys.stderr.flush()
        with suppress(Exception):
            self._own.set(f"beat/{self.place.rank}", "done")
        os._exit(failure.exit_code)

    def _say(self, beat: str) -> None:
        with suppress(Exception):
            self.store.set(f"beat/{self.place.rank}", beat)

    def _wait_for_others(self, seconds: float) -> None:
        """The process that keeps the store leaves last, or the others would not know why."""
        until = time.monotonic() + seconds
        while self.place.rank == 0 and not self.place.hosted and time.monotonic() < until:
            if all(_read(self.store, f"beat/{rank}") == "done" for rank in range(1, self.place.size)):
                return
            time.sleep(0.1)


def _read(store: Any, key: str) -> str:
    """ "" where nobody has written it: asking for it at once would wait."""
    return str(store.get(key).decode()) if store.check([key]) else ""


def _of_a_collective(error: BaseException) -> bool:
    """Whether the error says only that another process has gone."""
    distributed: Any = import_module("torch.distributed")
    by_words = any(word in str(error) for word in ("gloo", "NCCL", "Connection closed", "Connection reset"))
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and by_words)
