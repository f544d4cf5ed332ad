"""Forks in every way, and says what came of it."""

import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import time

from mesh import ClientError, Worker

fork = multiprocessing.get_context("fork")


def double(number):
    return 2 * number


def sleep():
    time.sleep(60)


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Forks(Worker):
    def __init__(self):
        if os.fork() == 0:
            return  # by mistake: it must not become a second replica
        self.lasting = concurrent.futures.ProcessPoolExecutor(1, mp_context=fork)

    def forward(self, how):
        return [getattr(self, how)(), os.getpid()]

    def fork_pool(self):
        with fork.Pool(2) as pool:  # leaving it terminates the two
            return pool.map(double, [1, 2])

    def spawn_pool(self):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.map(double, [1, 2])

    def terminate(self):
        child = fork.Process(target=sleep)
        child.start()
        child.terminate()
        child.join()
        return child.exitcode

    def interrupt(self):
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(write, b".")
                sleep()
            except KeyboardInterrupt:
                os._exit(7)
        os.read(read, 1)  # Python loses one that comes while its hooks run
        os.close(read)
        os.close(write)
        os.kill(pid, signal.SIGINT)
        return ended(pid)

    def executor(self):
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
            return list(pool.map(double, [1, 2]))

    def lasting_executor(self):
        return list(self.lasting.map(double, [1, 2]))

    def exits(self):
        pid = os.fork()
        if pid == 0:
            os._exit(3)
        return ended(pid)

    def exits_by_name(self):
        pid = os.fork()
        if pid == 0:
            sys.exit(5)
        return ended(pid)

    def returns(self):
        pid = os.fork()
        return None if pid == 0 else ended(pid)

    def raises(self):
        pid = os.fork()
        if pid == 0:
            raise ClientError("not for the client")
        return ended(pid)

    def terminal(self):
        pid, terminal = os.forkpty()
        if pid == 0:
            os._exit(4)
        code = ended(pid)  # before the terminal is closed, which would end it as well
        os.close(terminal)
        return code

    def command(self):
        return subprocess.run(["sleep", "0"]).returncode

    def prepared_command(self):
        child = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: None)
        child.terminate()
        return child.wait()
