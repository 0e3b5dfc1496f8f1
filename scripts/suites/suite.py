"""What the scripts beside this one share: the tests of a foreign suite are run bare and preloaded, and their verdicts
compared test by test.

A *job* is one command, which gives one verdict or many. It runs once in each way: bare, and preloaded with
FORKSAFE_SUSPEND=signal or gate, or both. A test whose verdicts differ is repeated, bare and preloaded in turns and
alone on the machine as far as this script goes; `judge` says what is made of the counts.

Each test gets a session, a directory for temporary files and, for root, a /dev/shm and message queues of its own,
so that nothing of it is left for the next one; it may not set the machine's clock.
"""

import argparse
import collections
import concurrent.futures
import ctypes
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HUNG, ABSENT = "HUNG", "absent"


class Job:
    """One command of a suite."""

    def __init__(self, name, command, limit, directory=None, environment=None):
        self.name = name
        self.command = command
        self.limit = limit  # seconds
        self.directory = directory  # None: its own temporary one
        self.environment = environment or {}
        self.many = False  # gives verdicts besides the one that has its own name: without any, bare, it is broken

    def verdicts(self, outcome):
        """Maps the name of each test to its verdict."""
        return {self.name: outcome.word()}

    def only(self, test):
        """The job that repeats one test."""
        assert test == self.name
        return self


class Outcome:
    """How a command ended. `status` is as in subprocess, or None if it was ended at the limit."""

    def __init__(self, status, output, scratch):
        self.status = status
        self.output = output
        self.scratch = scratch

    def word(self, words=None):
        if self.status is None:
            return HUNG
        if self.status < 0:
            try:
                return signal.Signals(-self.status).name
            except ValueError:
                return f"signal {-self.status}"
        return (words or {0: "PASS", 1: "FAIL"}).get(self.status, f"exit {self.status}")


# --- one run ---------------------------------------------------------------------------------------------------------

libc = ctypes.CDLL(None, use_errno=True)
own_ipc = False
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER = 1, 24, 36
CAP_SYS_TIME = 25
CLONE_NEWNS, CLONE_NEWIPC = 0x00020000, 0x08000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000


leaving = False


def leave(*_):
    """The handler that ends a process: once, so that nothing interrupts the cleaning up."""
    global leaving
    leaving = True
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(130)


def prepare_worker():
    """In each worker, before its first test. What is not permitted to the user is left as it is."""
    global own_ipc
    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a test leaves behind becomes our child
    libc.prctl(PR_CAPBSET_DROP, CAP_SYS_TIME)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWIPC) == 0:
        own_ipc = libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) == 0 and fresh_shm()


def fresh_shm():
    return libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"mode=1777") == 0


def empty_ipc():
    """Only called where these are the worker's own."""
    libc.umount2(b"/dev/shm", 2)
    fresh_shm()
    libc.unshare(CLONE_NEWIPC)


def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def end_all(leader):
    """Ends the session's leader, its group, and all that they left behind."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass
    while left := children():
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            if pid != leader:
                try:
                    os.waitpid(pid, 0)
                except ChildProcessError:
                    pass
        if left == [leader]:
            return


def run_job(job, preload):
    """Runs it once. `preload` is the environment that makes it preloaded, or empty. Returns the verdicts, what the
    library said, and the output."""
    scratch = tempfile.mkdtemp(prefix="forksafe-suite-")
    try:
        environment = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD" and not k.startswith("FORKSAFE_")}
        environment |= {"TMPDIR": scratch, "LC_ALL": "C.UTF-8"} | job.environment | preload
        # The preload is for the test alone, not for what starts it.
        with open(scratch + ".output", "w+b") as output:
            process = subprocess.Popen(
                [part.replace("{scratch}", scratch) for part in job.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=job.directory or scratch,
                env=environment,
                start_new_session=True,
            )
            status = None
            try:
                status = process.wait(job.limit)
            except subprocess.TimeoutExpired:
                pass
            finally:
                end_all(process.pid)
                process.wait()
            output.seek(0)
            text = output.read().decode(errors="replace")
        if "LD_PRELOAD cannot be preloaded" in text:
            raise RuntimeError(f"{job.name}: the library cannot be preloaded")
        said = [line for line in text.splitlines() if line.startswith("forksafe: ")]
        return job.verdicts(Outcome(status, text, scratch)), said, text
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.unlink(scratch + ".output")
        if leaving:
            os._exit(130)  # the pool would go on with the next
        if own_ipc:
            empty_ipc()


# --- verdicts --------------------------------------------------------------------------------------------------------

RARE = 0.01


def chance(this, of_these, that, of_those):
    """Fisher's exact test: how likely are counts at least as far apart as these, if both ways are alike?"""
    total, hits = of_these + of_those, this + that

    def weight(k):
        return math.comb(of_these, k) * math.comb(of_those, hits - k) / math.comb(total, hits)

    seen = weight(this)
    possible = range(max(0, hits - of_those), min(of_these, hits) + 1)
    return sum(w for k in possible if (w := weight(k)) <= seen * 1.0000001)


def judge(bare, preloaded):
    """What the counts of verdicts say: "flaky" if bare gave them too, and about as often; else "differs".

    A verdict that came preloaded and never bare is a difference, however rare. A bare test that is flaky explains
    nothing if preloaded it fails markedly more often, or less.
    """
    if set(preloaded) - set(bare):
        return "differs"
    bare_runs, preloaded_runs = sum(bare.values()), sum(preloaded.values())
    for verdict in bare:
        if chance(bare[verdict], bare_runs, preloaded[verdict], preloaded_runs) < RARE:
            return "differs"
    return "flaky"


CLEAR = 5  # repeats after which a test that is steady in both ways need not be repeated any more


def repeat(job, test, preload, first, times, submit):
    """Counts the verdicts of up to `times` further runs, in turns. `first` are the two that differed: they count as
    verdicts that were seen, but not in how often, since for being different they were chosen. Returns both counters
    and the output of the last preloaded run that was not like the first bare one."""
    bare, preloaded, shown = collections.Counter(), collections.Counter(), None
    job = job.only(test)

    def once(setting):
        verdicts, _, text = submit(run_job, job, setting).result()
        return verdicts.get(test, ABSENT), text

    for done in range(times):
        if done == CLEAR and set(bare) == {first[0]} and set(preloaded) == {first[1]}:
            break
        bare[once({})[0]] += 1
        verdict, text = once(preload)
        preloaded[verdict] += 1
        if verdict != first[0]:
            shown = text
    bare, preloaded = with_first(bare, first[0]), with_first(preloaded, first[1])
    # A verdict that came preloaded alone, and not always, may be a rare one of the bare test: that gets its chance.
    for _ in range(2 * times):
        if len(preloaded) == 1 or set(preloaded) <= set(bare):
            break
        bare[once({})[0]] += 1
    return bare, preloaded, shown


def with_first(counts, first):
    """The counts, and the first verdict where no repeat gave it again."""
    return counts if first in counts else counts + collections.Counter([first])


def told(counts):
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())


# --- the whole -------------------------------------------------------------------------------------------------------


def options(name, suite, tests):
    """The command line: [OPTION...] [SUITE] LIB [TEST...]. Usage errors are one line, with status 2."""

    class Parser(argparse.ArgumentParser):
        def error(self, message):
            sys.exit(usage(f"{message} (usage: scripts/suites/{name} [OPTION...] {suite}LIB [{tests}...])"))

    def usage(message):
        print(f"scripts/suites/{name}: {message}", file=sys.stderr)
        return 2

    def positive(text):
        value = int(text)
        if value <= 0:
            raise ValueError
        return value

    positive.__name__ = "number"
    parser = Parser(prog=f"scripts/suites/{name}", description=sys.modules["__main__"].__doc__)
    parser.add_argument("--jobs", type=positive, default=2, help="how many tests at a time (2)")
    parser.add_argument("--limit", type=positive, help="seconds for one command, in place of the suite's")
    parser.add_argument("--repeat", type=positive, default=20, help="repeats, each way, of a test that differs (20)")
    parser.add_argument("--suspend", choices=("signal", "gate", "both"), default="signal", help="FORKSAFE_SUSPEND")
    parser.add_argument("--keep", metavar="DIR", help="keep the output of what differed there")
    if suite:
        parser.add_argument("suite", help="the built suite")
    parser.add_argument("lib", metavar="LIB", help="the library to preload")
    parser.add_argument("tests", nargs="*", metavar=tests, help="only these")
    given = parser.parse_args()
    if not os.path.isfile(given.lib):
        parser.error(f"no library {given.lib}")
    given.lib = os.path.realpath(given.lib)
    loaded = subprocess.run(["true"], env={"LD_PRELOAD": given.lib, "PATH": os.defpath}, capture_output=True)
    if loaded.returncode != 0 or loaded.stderr:
        parser.error(f"{given.lib} cannot be preloaded")
    given.fail = lambda message: sys.exit(usage(message))
    if suite and not os.path.isdir(given.suite):
        given.fail(f"no directory {given.suite}")
    given.name = name
    return given


class Progress:
    """A line on a terminal, or one each minute elsewhere."""

    def __init__(self, name, total):
        self.name, self.total, self.done, self.next = name, total, 0, time.monotonic() + 60

    def step(self):
        self.done += 1
        if sys.stderr.isatty():
            print(f"\r{self.name}: {self.done} of {self.total}", end="\n" * (self.done == self.total), file=sys.stderr)
        elif time.monotonic() >= self.next:
            print(f"{self.name}: {self.done} of {self.total}", file=sys.stderr)
            self.next += 60


def compare(given, jobs):
    """Runs the jobs, prints the table, and returns the exit status: 1 if any test differs."""
    ways = {"bare": {}}
    for suspend in ("signal", "gate") if given.suspend == "both" else (given.suspend,):
        ways[suspend] = {"LD_PRELOAD": given.lib, "FORKSAFE_SUSPEND": suspend}
    if given.limit:
        for job in jobs:
            job.limit = given.limit
    if given.keep:
        os.makedirs(given.keep, exist_ok=True)
    verdicts = {way: {} for way in ways}
    job_of, findings, said, broken = {}, [], [], []
    with concurrent.futures.ProcessPoolExecutor(given.jobs, initializer=prepare_worker) as pool:
        signal.signal(signal.SIGTERM, leave)
        signal.signal(signal.SIGINT, leave)
        progress = Progress(given.name, len(jobs) * len(ways))
        try:
            # One job's ways run one after another, as they may share names.
            pending = {pool.submit(run_all_ways, job, ways): job for job in jobs}
            for future in concurrent.futures.as_completed(pending):
                results = future.result()
                if pending[future].many and len(results["bare"][0]) == 1:
                    broken.append((pending[future].name, *results["bare"][0].values(), results["bare"][2]))
                for way, (found, lines, _) in results.items():
                    verdicts[way] |= found
                    job_of |= dict.fromkeys(found, pending[future])
                    said += [f"{pending[future].name} ({way}): {line}" for line in lines[:1]]
                    progress.step()
            for way in list(ways)[1:]:
                for test in sorted(job_of):
                    first = [verdicts[w].get(test, ABSENT) for w in ("bare", way)]
                    if first[0] == first[1] or (ABSENT in first and ended_otherwise(job_of[test], verdicts, way)):
                        continue
                    bare, preloaded, text = repeat(
                        job_of[test], test, ways[way], first, given.repeat, pool.submit
                    )
                    findings.append((judge(bare, preloaded), way, test, bare, preloaded))
                    if given.keep and text is not None:
                        with open(os.path.join(given.keep, f"{test}.{way}".replace("/", "_")), "w") as file:
                            file.write(text)
        except BaseException:
            workers = list(pool._processes.values())
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.terminate()  # it ends its test first
            for worker in workers:
                worker.join()
            raise
    return report(given.name, verdicts, findings, said, broken)


def run_all_ways(job, ways):
    return {way: run_job(job, setting) for way, setting in ways.items()}


def ended_otherwise(job, verdicts, way):
    """True if the job's own verdict is the difference: it crashed or hung, so that its later tests are absent."""
    return verdicts["bare"].get(job.name) != verdicts[way].get(job.name)


def report(name, verdicts, findings, said, broken):
    ways = list(verdicts)
    counts = {way: collections.Counter(verdicts[way].values()) for way in ways}
    print(f"{'first run':<24}" + "".join(f"{way:>10}" for way in ways))
    for word in sorted(set().union(*counts.values())):
        print(f"{word:<24}" + "".join(f"{counts[way][word]:>10}" for way in ways))
    for kind in ("differs", "flaky"):
        for found, way, test, bare, preloaded in findings:
            if found == kind:
                print(f"{kind:<8}{test}: bare {told(bare)}; preloaded ({way}) {told(preloaded)}")
    for line in sorted(said):
        print(f"{'said':<8}{line}")
    for job, verdict, text in broken:
        print(f"{'broken':<8}{job}: bare {verdict}: {''.join(text.strip().splitlines()[-1:])}")
    tests = len(set().union(*verdicts.values()))
    found = collections.Counter(finding[0] for finding in findings)
    compared = tests * (len(ways) - 1)
    same = compared - found["differs"] - found["flaky"]
    print(f"{name}: {tests} tests, {compared} comparisons: {same} same, {found['flaky']} flaky bare, ", end="")
    print(f"{found['differs']} differ")
    return 1 if found["differs"] or broken else 0
