"""Names that no honest checkpoint mentions.

Safety does not rest on this list: nothing that a file names is ever imported or called. The list
only lets an attack be told to the user as what it is, instead of being passed over.
"""

from __future__ import annotations

from gsegkit_foreign.kinds import refuse_module
from gsegkit_foreign.limits import HOSTILE, refuse

_MODULES = frozenset(
    """
    _io _pickle _posixsubprocess asyncio bdb cloudpickle cmd code codeop commands concurrent cPickle cProfile
    ctypes dill distutils doctest ensurepip fileinput ftplib glob http httpx idlelib imp importlib inspect io
    joblib linecache marshal multiprocessing nt ntpath operator os pdb pickle pip pkgutil popen2 posix
    posixpath profile pty pydoc requests runpy selectors setuptools shelve shutil signal site smtplib socket
    socketserver ssl subprocess sys tarfile telnetlib tempfile test threading timeit trace traceback types
    unittest urllib urllib2 venv webbrowser xmlrpc zipfile zipimport
    """.split()  # noqa: SIM905 (a column of eighty names reads worse)
)
_PREFIXES = (
    "numpy.f2py",
    "numpy.testing",
    "torch.distributed",
    "torch.hub",
    "torch.jit",
    "torch.package",
    "torch.serialization",
    "torch.utils.bottleneck",
    "torch.utils.collect_env",
    "torch.utils.cpp_extension",
    "torch.utils.data.datapipes",
)
#: Harmless members of modules that are listed above: they stay notes as well.
_HARMLESS = {("types", "SimpleNamespace"), ("torch.serialization", "_get_layout")}
_BUILTINS = frozenset(
    """
    bool bytearray bytes complex dict float frozenset int list long object range set slice str tuple type
    unicode xrange
    """.split()  # noqa: SIM905 (a column of eighty names reads worse)
)


def check_global(module: str, name: str) -> None:
    """Refuse a pickle that mentions a name which can run code or touch the machine."""
    refuse_module(module)
    if (module, name) in _HARMLESS:
        return
    root = module.split(".", 1)[0]
    hostile = root in _MODULES or module.startswith(_PREFIXES)
    if root in ("builtins", "__builtin__", "__builtins__"):
        hostile = name not in _BUILTINS
    if (module, name) == ("torch", "load"):
        hostile = True
    if hostile:
        refuse(f"contains executable pickle ({module[:60]}.{name[:60]}); not loaded", HOSTILE)
