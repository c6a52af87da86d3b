"""A server on a free port, for tests of `tritllm serve`."""

import contextlib
import json
import signal
import subprocess
import urllib.error
import urllib.request

from cli_support import BINARY, clean_environment


class Server:
    def __init__(self, process, address, scheme_options=None):
        self.process = process
        self.address = address
        self.port = int(address.rsplit(":", 1)[1])

    def ask(self, path, body=None, **headers):
        """Status, header fields and parsed answer; `body` is JSON to post, bytes to post as they are, or None."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"} | headers)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.headers, self._parsed(answer)
        except urllib.error.HTTPError as answer:
            return answer.code, answer.headers, self._parsed(answer)

    @staticmethod
    def _parsed(answer):
        text = answer.read().decode()
        return json.loads(text) if answer.headers.get_content_type() == "application/json" else text

    def metric(self, name):
        lines = self.ask("/metrics")[2].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)


@contextlib.contextmanager
def serving(*arguments, expected=0):
    """Runs the server until the end of the block, where it must end by itself after SIGTERM."""
    command = [str(BINARY), "serve", "--port", "0", "--quiet", *map(str, arguments)]
    process = subprocess.Popen(command, env=clean_environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http"), process.communicate(timeout=10)[1]
        yield Server(process, address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == expected, process.stderr.read()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
