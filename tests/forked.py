"""`mvae`, or other code, in a process forked from one that has imported what otherwise takes each of them seconds."""

import os
import shutil
import subprocess
import sys
import tempfile
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path

import mvae.cli

SCRIPT = Path(sys.executable).with_name("mvae")
FOUND = str(SCRIPT) if SCRIPT.exists() else shutil.which("mvae")
COMMAND = [FOUND] if FOUND else [sys.executable, "-c", "import sys; from mvae.cli import main; sys.exit(main())"]
"""What starts a new process."""
STREAMS = (1, 2)
CONTEXT = get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")
if CONTEXT.get_start_method() == "forkserver":
    CONTEXT.set_forkserver_preload(["mvae.training.loop"])


def run_mvae(arguments, cwd, environment, timeout=300):
    """Run the command to its end; `subprocess.run` says what is returned and raised."""
    arguments = [str(argument) for argument in arguments]
    command = [*COMMAND, *arguments]
    if "--devices" in command:  # several processes run one script, so there has to be one
        return subprocess.run(
            command, cwd=cwd, env=environment, timeout=timeout, capture_output=True, text=True, check=False
        )
    return _forked(_main, arguments, command, cwd, environment, timeout)


def run_python(code, environment=os.environ, timeout=300):
    """Run code to its end as `python -c` does; what training needs is imported already, and nothing else."""
    return _forked(exec, (code, {}), ["python", "-c", code], Path.cwd(), environment, timeout)


def _forked(function, arguments, command, cwd, environment, timeout):
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, str(stream)) for stream in STREAMS]
        process = CONTEXT.Process(target=_child, args=(function, arguments, cwd, dict(environment), files))
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(command, timeout)
        return subprocess.CompletedProcess(command, process.exitcode, *(file.read_text() for file in files))


def _child(function, arguments, cwd, environment, files):
    for stream, file in zip(STREAMS, files, strict=True):
        os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.exit(function(*arguments))


def _main(*arguments):
    sys.argv = ["mvae", *arguments]
    return mvae.cli.main()
