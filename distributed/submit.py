"""Send a training, a search or any other command to a Ray cluster, and follow it.

    python distributed/submit.py --address http://HEAD:8265 --name first -- python distributed/train.py --store ...

The project's code travels with the job: the folders of `CODE` are packed and become the job's working directory on
every host, so the cluster needs the Python environment but no checkout. Paths in the command are paths on the cluster.
The job belongs to the cluster: it goes on when this program ends, and its name is its identity. The exit status is 0
only if the job succeeded (1 if it failed or was stopped, 2 for a mistake in the call, 130 after Ctrl-C).
Costs: one upload of a few hundred kilobytes, none when the same code was sent before.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_pipeline.errors import UserError, command_line

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

PROJECT = Path(__file__).resolve().parents[1]
CODE = ("data_pipeline", "model", "evaluation", "distributed", "tune", "configs", "bench", "pyproject.toml")
"""What of the project travels with a job; stores, runs, environments and everything else stay here."""

LARGEST_CODE_MIB = 100
"""Ray keeps the package in the memory of the head; far more than this is a store that strayed into a code folder."""

HINTS = {
    r"Unable to find (address|interface) for|Couldn't find (a )?.*interface|no socket interface found": (
        "a host has no interface of the name given: pass --interface with the name that `ip -brief address` shows there"
    ),
    r"connectFullMesh|gloo.*[Cc]onnection refused": (
        "the workers cannot reach each other's addresses: pass --interface with the name of the network interface that "
        "joins the hosts, and let the hosts reach each other on all TCP ports"
    ),
    r"No module named": "a host lacks a Python package: install the environment at the path that cluster.yaml names",
}
"""Text in the log of a failed job, and what it means for the cluster."""


def package_excludes(project: Path) -> list[str]:
    """Patterns (as in a .gitignore) that leave only `CODE` of the folder `project`.

    Raises `UserError` if what is left is larger than a package of code should be.
    """
    files = [file for part in CODE for file in [project / part, *(project / part).rglob("*")] if file.is_file()]
    sizes = {file: file.stat().st_size for file in files if "__pycache__" not in file.parts}
    if sum(sizes.values()) > LARGEST_CODE_MIB * 2**20:
        largest = max(sizes, key=lambda file: sizes[file])
        raise UserError(
            f"the code folders of {project} hold more than {LARGEST_CODE_MIB} MiB, too much to send with a job: "
            f"move data out of them, first {largest.relative_to(project)}"
        )
    others = sorted(entry.name for entry in project.iterdir() if entry.name not in CODE)
    return ["/" + re.sub(r"([\\*?\[\]!#\s])", r"\\\1", name) for name in others] + ["__pycache__"]


def check_command(command: Sequence[str], project: Path) -> None:
    """Raise `UserError` if `command` is empty or names a script that the package does not hold."""
    if not command:
        raise UserError("no command given; write it behind --, for example -- python distributed/train.py --store ...")
    scripts = [word for word in command if word.endswith((".py", ".sh"))][:1]
    for script in scripts:
        sent = Path(script).parts[0] in CODE
        if not Path(script).is_absolute() and not (sent and (project / script).is_file()):
            raise UserError(
                f"'{script}' is not among the code that travels with a job ({', '.join(CODE)}); correct the path, or "
                "give the absolute path of a file that exists on the cluster's head"
            )


def use_token(path: Path | None) -> None:
    """Let Ray authenticate with the token file at `path`, else with the token Ray finds by itself, else with none.

    Must run before Ray is imported, which reads these variables once. Raises `UserError` for an unusable file.
    """
    if path is None and "RAY_AUTH_TOKEN" in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        return
    chosen = path or Path(os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token"))
    file = chosen.expanduser()
    if file.is_file():
        if not file.read_text(encoding="utf-8").strip():
            raise UserError(f"token file {file} is empty; make one with `ray get-auth-token --generate`")
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}
        os.environ.pop("RAY_AUTH_TOKEN", None)
    elif path is not None or "RAY_AUTH_TOKEN_PATH" in os.environ:
        raise UserError(f"token file {file} does not exist; copy it from the machine that ran `ray up`")
    else:
        os.environ["RAY_AUTH_MODE"] = "disabled"


def connect(address: str) -> JobSubmissionClient:
    """Connect to the job server at `address`; raises `UserError` if nothing answers or it refuses the token."""
    url = address if "://" in address else f"http://{address}"
    # Ray lets these variables override the address it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = url
    from ray.job_submission import JobSubmissionClient

    # Their progress lines and advice on packaging are about things that this program has decided.
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with _as_user_errors(url):
        return JobSubmissionClient(url)


def submit(client: JobSubmissionClient, command: Sequence[str], name: str | None, interface: str | None) -> str:
    """Send `command` as a job and return its name; raises `UserError` for a name in use or an unusable package."""
    environment = {"PYTHONUNBUFFERED": "1"}
    if interface is not None:
        environment |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    packaged = {"working_dir": str(PROJECT), "excludes": package_excludes(PROJECT), "env_vars": environment}
    with _as_user_errors(client.get_address(), name):
        return client.submit_job(entrypoint=shlex.join(command), submission_id=name, runtime_env=packaged)


def follow(client: JobSubmissionClient, name: str) -> int:
    """Print the log of job `name` until it ends; returns 0 if it succeeded, 1 if not, 130 after Ctrl-C."""
    log: list[str] = []

    async def print_log() -> None:
        async for chunk in client.tail_job_logs(name):
            log.append(chunk)
            del log[:-200]
            print(chunk, end="", flush=True)

    address = client.get_address()
    try:
        with _as_user_errors(address, name):
            client.get_job_status(name)  # for its sentence about an unknown name, which the log's road lacks
            asyncio.run(print_log())
            details = client.get_job_info(name)
    except KeyboardInterrupt:
        print(f"\ndetached; job '{name}' goes on\n{_ways_on(address, name)}", file=sys.stderr)
        return 130
    # The message repeats the end of the log, which has just been printed.
    message = (details.message or "").split(", last available logs")[0]
    print(f"job '{name}': {details.status.value}: {message}", file=sys.stderr)
    if details.status.value == "SUCCEEDED":
        return 0
    text = "".join(log)
    for hint in [sentence for pattern, sentence in HINTS.items() if re.search(pattern, text)][:1]:
        print(f"hint: {hint}", file=sys.stderr)
    return 1


def _ways_on(address: str, name: str) -> str:
    program = ["python", "distributed/submit.py", "--address", address]
    follow, stop = (shlex.join([*program, option, name]) for option in ("--logs", "--stop"))
    return f"  follow it:  {follow}\n  stop it:    {stop}"


@contextmanager
def _as_user_errors(address: str, name: str | None = None) -> Iterator[None]:
    """Turn what Ray's client raises for mistakes and outages into one sentence each."""
    import aiohttp
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        if "Authentication required" in str(error):
            raise UserError(
                f"the cluster at {address} asks for a token and none was found: pass --token FILE, a copy of "
                "~/.ray/auth_token of the machine that ran `ray up`"
            ) from error
        raise UserError(
            f"the cluster at {address} refuses the token: use the ~/.ray/auth_token of the machine that ran `ray up`"
        ) from error
    except (ConnectionError, OSError, aiohttp.ClientError) as error:
        raise UserError(
            f"no Ray cluster answers at {address}: check that it is up (`ray up cluster.yaml`), that the address is "
            "the head's with port 8265, and that no firewall is between"
        ) from error
    except RuntimeError as error:
        if "already exists" in str(error):
            raise UserError(
                f"a job named '{name}' was already sent to this cluster: choose another --name, or follow that one "
                f"with --logs {name}"
            ) from error
        if "does not exist" in str(error):
            raise UserError(f"the cluster at {address} has no job named '{name}'") from error
        raise UserError(f"the cluster at {address} refused the request: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _check_name(value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", value):
        raise typer.BadParameter("letters, digits, '_', '.' and '-' only, and a letter or digit first")
    return value


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _job_option(text: str) -> Any:
    return typer.Option(metavar="NAME", callback=_check_name, help=text)


# Options end at the first word of the command, so that the command's own options are not taken for ours.
@app.command(context_settings={"allow_interspersed_args": False})
def main(
    address: Annotated[str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="The head: http://HEAD:8265")],
    command: Annotated[list[str] | None, typer.Argument(help="What to run on the cluster, behind --")] = None,
    name: Annotated[str | None, _job_option("Name of the job; made up if not given")] = None,
    interface: Annotated[
        str | None, typer.Option(help="Network interface that joins the hosts, if not the one cluster.yaml names")
    ] = None,
    token: Annotated[Path | None, typer.Option(help="Token file, if not ~/.ray/auth_token")] = None,
    follow_log: Annotated[bool, typer.Option("--follow/--no-follow", help="Print the log until the job ends")] = True,
    logs: Annotated[str | None, _job_option("Follow this job instead of sending one")] = None,
    status: Annotated[str | None, _job_option("Print the status of this job")] = None,
    stop: Annotated[str | None, _job_option("Stop this job")] = None,
) -> None:
    """Send COMMAND to the cluster as a job and follow it, or look after a job sent before."""
    other = [job for job in (logs, status, stop) if job is not None]
    if len(other) > 1 or (other and command):
        raise UserError("give one thing to do: a command, or one of --logs, --status and --stop")
    if not other:
        check_command(command or [], PROJECT)
    use_token(token)
    client = connect(address)
    if logs is not None:
        raise typer.Exit(follow(client, logs))
    if status is not None or stop is not None:
        raise typer.Exit(_look_after(client, status, stop))
    job = submit(client, command or [], name, interface)
    print(f"job '{job}' sent to {client.get_address()}\n{_ways_on(client.get_address(), job)}", file=sys.stderr)
    if follow_log:
        raise typer.Exit(follow(client, job))


def _look_after(client: JobSubmissionClient, status: str | None, stop: str | None) -> int:
    job = status or stop or ""
    with _as_user_errors(client.get_address(), job):
        if stop is not None and not client.stop_job(job):
            raise UserError(f"job '{job}' is not running")
        print(client.get_job_status(job).value if stop is None else f"job '{job}' is told to stop")
    return 0


if __name__ == "__main__":
    command_line(app)
