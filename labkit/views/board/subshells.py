"""Messages of widgets that find their way: to the kernel's thread that they name.

JupyterLab sends what widgets say to a subshell of the kernel, a thread beside the one that runs cells; each page has its own. ipykernel 7.4
hands a message to the thread that last wrote to the widget instead. If that is the subshell of a page that was closed, the message is lost
("Unknown subshell_id" in the log): a board that asks for its run, or a button that the run has switched, is dead. If it is the thread of
cells, the button waits for a cell that itself waits for the run. Here a message goes where it says, unless it answers a question.
"""

from __future__ import annotations

import functools
from typing import Any


def mend_routes() -> None:
    """Mend the routes of all widgets in this kernel. Does nothing where there is no such kernel, or if it was done before."""
    from IPython.core.getipython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    manager = getattr(getattr(kernel, "shell_channel_thread", None), "manager", None)
    if manager is None:
        return
    try:
        from ipykernel.comm.comm import BaseComm
    except ImportError:
        return
    route = getattr(BaseComm, "_reply_subshell_for", None)
    if route is None or hasattr(route, "__wrapped__") or not hasattr(manager, "list_subshell"):
        return
    BaseComm._reply_subshell_for = mended(route, manager.list_subshell)  # type: ignore[method-assign]


def mended(route: Any, known: Any) -> Any:
    """The method of a comm that chooses the subshell of a message.

    route: the method of ipykernel, which is right for an answer: a message with the "id" of a question.
    known: gives the ids of all subshells.
    """

    @functools.wraps(route)
    def choose(comm: Any, data: Any, named: str | None) -> str | None:
        content = data.get("content") if isinstance(data, dict) else None
        answered: str | None = route(comm, data, named)
        return answered if isinstance(content, dict) and "id" in content and answered in (None, *known()) else named

    return choose
