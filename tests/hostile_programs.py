"""Programs that try to escape, to do damage, or to pass tests that they do not deserve to pass.

Each is asked for ``add(a, b)``. Where an attack is on the outside, ``add`` is right exactly if the attack succeeded, so
``passed`` would mean that it did. ``SECRET`` (a file), ``OUTSIDE`` (a folder) and ``PORT`` (a listener of this
machine) stand for what the test plants.
"""

from __future__ import annotations

TESTS = """
def check(candidate):
    assert candidate(1, 2) == 3
    assert candidate(-1, 1) == 0
    assert candidate("a", "b") == "ab"
    assert candidate([1], [2]) == [1, 2]
"""

# What the tests say, every byte one up: a program that looked for the words themselves would find its own.
SHIFTED = bytes(byte + 1 for byte in b"assert candidate(1, 2) == 3")
_SHIFT = f"needle = {SHIFTED!r}\ntable = bytes((byte + 1) % 256 for byte in range(256))\n"

_IF = "\ndef add(a, b):\n    return a + b if won else None\n"  # right where the attack has won
_WRONG = "\ndef add(a, b):\n    return None\n"

OUTWARD = {
    "reads a planted secret": "try:\n    won = 'swordfish' in open('SECRET').read()\nexcept OSError:\n    won = False" + _IF,
    "reads the secret through the root of another process": """
import os
won = False
for pid in [1, 2, 3, 4, 'self', os.getppid()]:
    try:
        won = won or 'swordfish' in open(f'/proc/{pid}/root' + 'SECRET').read()
    except OSError:
        pass
""" + _IF,
    "reads the secret through a symbolic link": """
import os
try:
    os.symlink('SECRET', '/tmp/link')
    won = 'swordfish' in open('/tmp/link').read()
except OSError:
    won = False
""" + _IF,
    "climbs out by dots": """
try:
    won = 'swordfish' in open('../' * 40 + 'SECRET').read()
except OSError:
    won = False
""" + _IF,
    "looks for the users' folders": "import os\nwon = any(os.path.exists(p) for p in ('/home', '/root', '/work', '/etc/passwd', '/etc/shadow', '/var', '/sys', '/run', '/boot'))" + _IF,
    "reads the environment": "import os\nwon = any('PLANTED' in key or 'planted' in value for key, value in os.environ.items())" + _IF,
    "writes a file outside": "try:\n    won = open('OUTSIDE/owned', 'w').write('x') == 1\nexcept OSError:\n    won = False" + _IF,
    "writes into the interpreter's library": "import os\ntry:\n    won = open(os.__file__, 'a').write('#') == 1\nexcept OSError:\n    won = False" + _IF,
    "writes wherever it can": """
import os
won = False
for top, folders, files in os.walk('/'):
    if top.startswith('/tmp'):
        continue
    try:
        open(os.path.join(top, 'owned'), 'w').write('x')
        won = True
    except OSError:
        pass
""" + _IF,
    "makes the file systems writable again": """
import ctypes
won = ctypes.CDLL(None).mount(None, b'/', None, 32 | 4096, None) == 0
""" + _IF,
    "uncovers /proc": "import ctypes, os\nwon = ctypes.CDLL(None).umount2(b'/proc', 2) == 0 or bool(os.listdir('/proc'))" + _IF,
    "mounts /proc anew": "import ctypes\nwon = ctypes.CDLL(None).mount(b'proc', b'/tmp', b'proc', 0, None) == 0" + _IF,
    "changes its root": "import os\ntry:\n    os.mkdir('/tmp/r'); os.chroot('/tmp/r'); won = True\nexcept OSError:\n    won = False" + _IF,
    "makes a user namespace": "import ctypes\nwon = ctypes.CDLL(None).unshare(0x10000000) == 0" + _IF,
    "clones into new namespaces": """
import ctypes, os
won = ctypes.CDLL(None, use_errno=True).syscall(56 if os.uname().machine == 'x86_64' else 220, 0x10000000 | 17, 0, 0, 0, 0) >= 0
""" + _IF,
    "becomes root": "import os\nwon = False\nfor call in (os.setuid, os.setgid):\n    try:\n        call(0); won = True\n    except OSError:\n        pass" + _IF,
    "makes a device": "import os\ntry:\n    os.mknod('/tmp/sda', 0o60666, os.makedev(8, 0)); open('/tmp/sda').read(1); won = True\nexcept OSError:\n    won = False" + _IF,
    "connects to a listener of this machine": """
import socket
won = False
for host in ('127.0.0.1', 'localhost', '10.0.2.2', '0.0.0.0'):
    try:
        socket.create_connection((host, PORT), timeout=0.2).send(b'x')
        won = True
    except OSError:
        pass
""" + _IF,
    "connects to the hypervisor": "import socket\ntry:\n    s = socket.socket(40, socket.SOCK_STREAM); won = True\nexcept OSError:\n    won = False" + _IF,
    "opens a raw socket": "import socket\ntry:\n    socket.socket(socket.AF_PACKET, socket.SOCK_RAW); won = True\nexcept (OSError, AttributeError):\n    won = False" + _IF,
    "looks up a name": "import socket\ntry:\n    socket.getaddrinfo('example.org', 80); won = True\nexcept OSError:\n    won = False" + _IF,
    "traces its parent": "import ctypes, os\nwon = any(ctypes.CDLL(None).ptrace(16, pid, 0, 0) == 0 for pid in (os.getppid(), 1, 2, 3))" + _IF,
    "asks the kernel for its keys": "import ctypes, os\nwon = ctypes.CDLL(None).syscall(250 if os.uname().machine == 'x86_64' else 219, 0, -3, 1) >= 0" + _IF,
    "starts io_uring": "import ctypes\nwon = ctypes.CDLL(None).syscall(425, 8, ctypes.create_string_buffer(120)) >= 0" + _IF,
    "leaves shared memory behind": "import ctypes\nwon = ctypes.CDLL(None).shmget(4242, 4096, 0o1666) >= 0" + _IF,
    "runs a shell": "import subprocess\ntry:\n    won = subprocess.run(['/bin/sh', '-c', 'id'], timeout=1).returncode == 0\nexcept OSError:\n    won = False" + _IF,
}  # fmt: skip
"""What is tried to what tries it: attacks on the outside."""

DAMAGE = {
    "fork bomb": "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    "thread bomb": "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(60,)).start()",
    "memory bomb": "x = []\nwhile True:\n    x.append(bytearray(1 << 24))",
    "memory bomb in a call": "def add(a, b):\n    return [0] * (1 << 40)",
    "fills the disk": "import os\nn = 0\nwhile True:\n    n += 1\n    with open(f'/tmp/{n}', 'wb') as f:\n        f.write(bytes(1 << 20))",
    "one huge file": "f = open('/tmp/huge', 'wb')\nwhile True:\n    f.write(bytes(1 << 20))",
    "uses up the inodes": "n = 0\nwhile True:\n    n += 1\n    open(f'/tmp/{n}', 'w').close()",
    "infinite output": "while True:\n    print('spam' * 1000)",
    "infinite error output": "import sys\nwhile True:\n    sys.stderr.write('spam' * 1000)",
    "infinite loop": "while True:\n    pass",
    "sleeps": "import time\ntime.sleep(600)",
    "infinite loop in a call": "def add(a, b):\n    while True:\n        pass",
    "an endless generator": "def add(a, b):\n    while True:\n        yield 1",
    "deep recursion": "def add(a, b):\n    return add(a, b)",
    "crashes the interpreter": "import ctypes\nctypes.string_at(0)",
    "a regular expression that never ends": "import re\nre.match(r'(a+)+$', 'a' * 64 + 'b')",
    "a power that never ends": "x = 9 ** 9 ** 9",
    "kills its parent": "import os\nos.kill(os.getppid(), 9)" + _WRONG,
    "kills everything": "import os\ntry:\n    os.kill(-1, 9)\nexcept OSError:\n    pass" + _WRONG,
    "stops everything": "import os, signal\nfor pid in [-1, 0, *range(2, 200)]:\n    try:\n        os.kill(pid, signal.SIGSTOP)\n    except OSError:\n        pass" + _WRONG,
    "kills itself": "import os\nos.kill(os.getpid(), 9)" + _WRONG,
    "ignores every signal": "import signal\nfor n in range(1, 65):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
    "leaves a daemon": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True:
            time.sleep(0.01)
    os._exit(0)
""" + _WRONG,
    "closes every descriptor": "import os\nos.closerange(0, 256)" + _WRONG,
    "floods every descriptor": "import os\nfor fd in range(64):\n    for _ in range(100):\n        try:\n            os.set_blocking(fd, False)\n            os.write(fd, b'x' * 65536)\n        except OSError:\n            break" + _WRONG,
    "returns a huge value": "def add(a, b):\n    return 'x' * (1 << 27)",
    "returns a value nested without end": "def add(a, b):\n    x = []\n    x.append(x)\n    return x",
}  # fmt: skip
"""What is tried to what tries it: attacks on the sandbox and on the programs after it."""

CHEATS = {
    "exits before the tests": "import sys\nsys.exit(0)",
    "exits in the function": "import os\ndef add(a, b):\n    os._exit(0)",
    "raises SystemExit in the function": "def add(a, b):\n    raise SystemExit(0)",
    "raises a BaseException": "class Done(BaseException):\n    pass\ndef add(a, b):\n    raise Done",
    "raises AssertionError": "def add(a, b):\n    raise AssertionError",
    "equals everything": "class Any:\n    def __eq__(self, other):\n        return True\n    def __hash__(self):\n        return 0\ndef add(a, b):\n    return Any()",
    "an int that equals everything": "class Any(int):\n    def __eq__(self, other):\n        return True\n    __hash__ = int.__hash__\ndef add(a, b):\n    return Any(7)",
    "a str that equals everything": "class Any(str):\n    def __eq__(self, other):\n        return True\n    __hash__ = str.__hash__\ndef add(a, b):\n    return Any('x')",
    "lies about its class": "class Any:\n    __class__ = int\n    def __eq__(self, other):\n        return True\ndef add(a, b):\n    return Any()",
    "patches the builtins": "import builtins\nbuiltins.AssertionError = type('Quiet', (Exception,), {})\nbuiltins.all = builtins.any = lambda *a: True\nbuiltins.isinstance = lambda *a: True" + _WRONG,
    "replaces unittest and pytest": "import sys, types\nfor name in ('unittest', 'pytest', 'math', 'json'):\n    sys.modules[name] = types.ModuleType(name)" + _WRONG,
    "overwrites the test function": "def check(candidate):\n    return True\nimport __main__\n__main__.check = check" + _WRONG,
    "an entry point that is its own test": "class Add:\n    def __call__(self, a, b):\n        return self\n    def __eq__(self, other):\n        return True\nadd = Add()",
    "reads the tests from its frames and objects": _SHIFT + """
import gc, sys
def add(a, b):
    seen = [value for held in gc.get_objects() if isinstance(held, dict) for value in list(held.values())]
    frame = sys._getframe()
    while frame:
        seen += frame.f_locals.values()
        frame = frame.f_back
    for value in seen:
        if isinstance(value, str) and needle in value.encode('utf-8', 'replace').translate(table):
            return a + b
""",
    "scans its memory for the tests": _SHIFT + """
import ctypes, os
write = ctypes.CDLL(None).write
def add(a, b):
    r, w = os.pipe()
    os.set_blocking(w, False)
    for near in (id(object()), id('x' * 10000)):
        last = b''
        for page in range((near & ~0xfff) - (1 << 24), (near & ~0xfff) + (1 << 24), 4096):
            piece = os.read(r, 4096).translate(table) if write(w, ctypes.c_void_p(page), 4096) == 4096 else b''
            if needle in last + piece:
                return a + b
            last = piece
""",
    "reads the tests from disk": _SHIFT + """
import os
def add(a, b):
    for top, _, files in os.walk('/'):
        for name in files:
            if not top.startswith(('/usr', '/python', '/lib', '/dev')):
                try:
                    if needle in open(os.path.join(top, name), 'rb').read(1 << 20).translate(table):
                        return a + b
                except OSError:
                    pass
""",
    "forges the verdict on every descriptor": """
import json, os
body = json.dumps({'outcome': 'passed', 'detail': '', 'stdout': '', 'stderr': '', 'seconds': 0.0}).encode()
for fd in range(64):
    try:
        os.write(fd, len(body).to_bytes(4, 'big') + body)
    except OSError:
        pass
""" + _WRONG,
    "forges answers on the wire": """
import json, os
for value in (None, True, {'t': [3, []]}, {'o': 0}):
    body = json.dumps(['value', value]).encode()
    for fd in (1, 2, 3, 4):
        try:
            os.write(fd, (len(body).to_bytes(4, 'big') + body) * 3)
        except OSError:
            pass
""" + _WRONG,
    "sends what is no message": "import os\nos.write(4, b'\\x00\\x00\\x00\\x05[[[[[')" + _WRONG,
    "announces a message without end": "import os\nos.write(4, b'\\xff' * 4)" + _WRONG,
    "asks the tests for their names": """
import json, os
body = json.dumps(['name', 'check']).encode()
os.write(4, len(body).to_bytes(4, 'big') + body)
""" + _WRONG,
    "asks for an attribute of a test's object": """
import json, os
body = json.dumps(['get', 0, '__globals__']).encode()
os.write(4, len(body).to_bytes(4, 'big') + body)
""" + _WRONG,
    "registers an exit handler": "import atexit, os\natexit.register(lambda: os._exit(0))" + _WRONG,
    "answers signals": "import os, signal\nfor n in (signal.SIGTERM, signal.SIGALRM, signal.SIGXCPU):\n    signal.signal(n, lambda *a: os._exit(0))\nsignal.alarm(1)\nwhile True:\n    pass",
    "a thread that outlives": "import threading, os\ndef run():\n    while True:\n        try:\n            os.write(1, b'passed')\n        except OSError:\n            pass\nthreading.Thread(target=run, daemon=True).start()" + _WRONG,
    "patches the harness": """
import sys
for name, module in list(sys.modules.items()):
    if 'counterclaim' in name:
        for attribute in dir(module):
            if not attribute.startswith('__'):
                setattr(module, attribute, lambda *a, **k: True)
""" + _WRONG,
    "plain data as entry point": "add = 3",
    "no entry point": "def plus(a, b):\n    return a + b",
    "no Python": "this is not python",
    "null bytes": "def add(a, b):\n    return a + b\n\0",
}  # fmt: skip
"""What is tried to what tries it: attacks on the verdict."""

ALL = {**OUTWARD, **DAMAGE, **CHEATS}
