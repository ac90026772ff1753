# The library is typed in parts only; these are the names that simulations use.
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Generic, Self, TypeVar

_T = TypeVar("_T")

class Future(Generic[_T]):
    status: str
    def add_done_callback(self, fn: Callable[[Future[_T]], object]) -> None: ...
    def result(self, timeout: float | None = ...) -> _T: ...
    def release(self) -> None: ...

class KilledWorker(Exception):
    @property
    def allowed_failures(self) -> int: ...

class Security:
    def __init__(
        self, require_encryption: bool | None = ..., **kwargs: str | None
    ) -> None: ...
    def get_connection_args(self, role: str) -> dict[str, object]: ...

class LocalCluster:
    def __init__(
        self,
        *,
        n_workers: int = ...,
        threads_per_worker: int = ...,
        processes: bool = ...,
        protocol: str = ...,
        dashboard_address: str | None = ...,
        worker_dashboard_address: str | None = ...,
        scheduler_kwargs: Mapping[str, object] = ...,
        memory_limit: int | None = ...,
        silence_logs: int = ...,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

class Client:
    status: str
    def __init__(
        self,
        address: str | LocalCluster,
        *,
        timeout: float = ...,
        security: Security | None = ...,
        set_as_default: bool = ...,
    ) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def submit(
        self,
        func: Callable[[bytes], _T],
        argument: bytes,
        *,
        key: str,
        retries: int,
        pure: bool,
    ) -> Future[_T]: ...
    def cancel(self, futures: Iterable[Future[_T]], *, force: bool = ...) -> None: ...
    def close(self, timeout: float = ...) -> None: ...
    def run(
        self, function: Callable[[str], _T], argument: str, *, on_error: str
    ) -> dict[str, _T | Exception]: ...
    def scheduler_info(self) -> Mapping[str, Mapping[str, object]]: ...
    def wait_for_workers(self, n_workers: int, timeout: float) -> None: ...

class _TaskState:
    state: str

class _WorkerState:
    tasks: Mapping[str, _TaskState]

class _Status:
    name: str

class Worker:
    state: _WorkerState
    status: _Status
    def get_current_task(self) -> str: ...

def get_worker() -> Worker: ...
