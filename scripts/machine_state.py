"""The state of the machine during a measurement: its processor, other programs' use of it, its present speed.

Linux and the standard library only. Knows nothing of models.
"""

import multiprocessing
import os
import resource
import time

PROBE_SECONDS = 0.1
COPY_BYTES = 96 << 20  # more than a share of a last-level cache
COPIES = 3


def processor_name():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown"


def processor_flags():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    return set()


def available_memory():
    with open("/proc/meminfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0


def busy_seconds():
    """All processors' busy seconds since boot: everything but idling and waiting for disks. Time stolen by the host is busy."""
    with open("/proc/stat", encoding="utf-8") as file:
        user, nice, system, _idle, _wait, irq, soft_irq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + soft_irq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    """Processor time of this process and of its ended children."""
    return sum(usage.ru_utime + usage.ru_stime
               for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


class ForeignUse:
    """The share of all processors' time, 0 to 1, that others took between entering and leaving; the child must have ended."""

    def __enter__(self):
        self.begin = time.monotonic(), busy_seconds(), own_seconds()
        return self

    def __exit__(self, *_):
        wall, busy, own = (now - then for now, then in zip((time.monotonic(), busy_seconds(), own_seconds()), self.begin))
        self.share = max(0.0, busy - own) / (max(wall, 1e-9) * os.cpu_count())


def wait_for_quiet(most_share, seconds):
    """Returns as soon as others leave the machine alone for half a second, or after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with ForeignUse() as foreign:
            time.sleep(0.5)
        if foreign.share <= most_share:
            return


def probe_processor(processor, results):
    os.sched_setaffinity(0, {processor})
    rounds, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < PROBE_SECONDS:
        sum(range(1000))
        rounds += 1
    rate = rounds / (time.perf_counter() - begin)
    source = bytearray(COPY_BYTES)
    target = bytearray(COPY_BYTES)
    begin = time.perf_counter()
    for _ in range(COPIES):
        target[:] = source
    results.put((rate, COPIES * COPY_BYTES / (time.perf_counter() - begin)))


def probe():
    """Runs on all processors at once, about 0.2 s. `loops`: of the slowest processor, per second; `copy_gb`: GB/s copied by all."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    workers = [context.Process(target=probe_processor, args=(cpu, results)) for cpu in sorted(os.sched_getaffinity(0))]
    for worker in workers:
        worker.start()
    answers = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return {"loops": min(rate for rate, _ in answers), "copy_gb": sum(copied for _, copied in answers) * 1e-9}
