"""What every test starts from."""

import signal


def pytest_configure() -> None:
    """Let the processes that tests start be stopped by signals, also where pytest runs in a shell's background.

    There SIGINT and SIGHUP are ignored, and children would inherit that.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
