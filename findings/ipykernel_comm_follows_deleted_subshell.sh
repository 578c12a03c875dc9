#!/usr/bin/env bash
# A comm of ipykernel hands what it is told to the subshell that last spoke on it, also when that one was deleted: the message is lost.
#
# Guess before the test: a message names its subshell, and runs there. So a page that was loaded again, and has a subshell of its own, reaches
# the widgets of the page before, whose subshell was deleted with it.
#
# Seen with ipykernel 7.4.0 and jupyter_client 8.10.0 on Python 3.11, Linux: `BaseComm.publish_msg` remembers the subshell of its parent message,
# and the kernel sends the next message of the frontend there instead of where the message says. After the subshell is deleted it answers
# UnknownSubshellError. JupyterLab deletes the subshell of a page, and of the comm that asks for all widgets' states, so a widget on which
# a thread or the old page's click spoke last is deaf until the kernel speaks on it from a live subshell.
#
# Expected output:
#   ipykernel 7.4.0
#   named the first subshell: heard
#   named the second subshell: heard
#   first one deleted, named the second: lost
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check ipykernel==7.4.0 jupyter_client==8.10.0
cd "$folder"
seen=$(env/bin/python - 2>noise <<'PY'
import time

import ipykernel
from jupyter_client import KernelManager

print(f"ipykernel {ipykernel.__version__}")
kernel = KernelManager()
kernel.start_kernel()
client = kernel.client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive("""
import comm
heard = []
echo = comm.create_comm(target_name="test", comm_id="echo")
echo.on_msg(lambda message: (heard.append(message["content"]["data"]["word"]), echo.send({"again": 1})))
""", timeout=60)


def control(kind, content):
    message = client.session.msg(kind, content)
    client.control_channel.send(message)
    return client.get_control_msg(timeout=30)["content"]


def tell(word, subshell):
    """Whether a message on the comm, which names a subshell, is heard."""
    message = client.session.msg("comm_msg", {"comm_id": "echo", "data": {"word": word}})
    message["header"]["subshell_id"] = subshell
    client.shell_channel.send(message)
    time.sleep(2)
    told = []
    client.execute_interactive("print(heard)", timeout=60, output_hook=lambda m: told.append(m["content"].get("text", "")))
    return "heard" if word in "".join(told) else "lost"


first, second = (control("create_subshell_request", {})["subshell_id"] for _ in range(2))
print(f"named the first subshell: {tell('two', first)}")
print(f"named the second subshell: {tell('three', second)}")
tell("four", first)
control("delete_subshell_request", {"subshell_id": first})
print(f"first one deleted, named the second: {tell('five', second)}")
client.stop_channels()
kernel.shutdown_kernel(now=True)
PY
) || { cat noise; exit 1; }
echo "$seen"
grep -qx "ipykernel 7.4.0" <<<"$seen"
grep -qx "named the first subshell: heard" <<<"$seen"
grep -qx "named the second subshell: heard" <<<"$seen"
grep -qx "first one deleted, named the second: lost" <<<"$seen"
