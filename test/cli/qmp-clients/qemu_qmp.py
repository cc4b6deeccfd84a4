"""Drives a machine with QEMU's own client (qemu.qmp), as its users do. Prints a line for each call that is
right, and ends with status 1 at the first that is not. Argument: the path of the QMP socket."""
import asyncio
import sys

from qemu.qmp import ExecuteError, QMPClient


def expect(what, ok, found):
    print(f"{what}: {found}")
    if not ok:
        sys.exit(1)


async def main():
    client = QMPClient("wherry")
    await client.connect(sys.argv[1])
    status = await client.execute("query-status")
    expect("status", status["running"] is True, status)
    commands = {entry["name"] for entry in await client.execute("query-commands")}
    schema = await client.execute("query-qmp-schema")
    described = {entry["name"] for entry in schema if entry["meta-type"] == "command"}
    expect("schema", described == commands, f"{len(described)} commands")
    with client.listener("STOP") as stopped:
        await client.execute("stop")
        expect("stop", (await asyncio.wait_for(stopped.get(), 10))["event"] == "STOP", "STOP")
    await client.execute("cont")
    line = {"command-line": "info registers", "cpu-index": 0}
    text = await client.execute("human-monitor-command", line)
    expect("info registers", " pc " in text, text.splitlines()[2])
    for command, arguments in [("getfd", {"fdname": "a"}), ("system_wakeup", None)]:
        try:
            await client.execute(command, arguments)
            expect(command, False, "no error")
        except ExecuteError as error:
            expect(command, True, error)
    await client.execute("quit")
    # The machine may have ended first.
    try:
        await client.disconnect()
    except EOFError:
        print("quit: done")


asyncio.run(main())
