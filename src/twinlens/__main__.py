"""`python -m twinlens`: the command line as a process, which ends quietly at any moment."""

import os
import signal
import sys
import threading
from typing import NoReturn

LIFELINE = "TWINLENS_LIFELINE"
WORKER = "twinlens-worker"  # the thread that measures for the server


def main() -> NoReturn:
    """Run the command line. Exits as `twinlens.cli.main` does; 143 where it is terminated."""
    try:
        signal.signal(signal.SIGTERM, _terminated)
        end_with_parent()
        from twinlens.cli import main as run

        run()
    except SystemExit as left:
        if isinstance(left.code, int) and any(one.name == WORKER for one in threading.enumerate()):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(left.code)  # torch aborts where the interpreter ends under a pass
        raise
    except KeyboardInterrupt:  # while it was imported
        print("twinlens: interrupted", file=sys.stderr)
        sys.exit(130)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # nothing is left to interrupt


def end_with_parent() -> None:
    """Where the environment says `TWINLENS_LIFELINE=stdin`: end when standard input does.

    Who started this process holds the other end of that pipe and writes nothing; the system closes
    it when that process is gone, however it went.
    """
    if os.environ.pop(LIFELINE, None) == "stdin":
        threading.Thread(target=_wait_for_the_end, name="twinlens-lifeline", daemon=True).start()


def _wait_for_the_end() -> None:
    while os.read(0, 1024):  # not `sys.stdin`, whose lock would be asked for at the end
        pass
    os._exit(143)


def _terminated(_signal: int, _frame: object) -> NoReturn:
    """A signal to end lets temporary folders go first."""
    sys.exit(143)


if __name__ == "__main__":
    main()
