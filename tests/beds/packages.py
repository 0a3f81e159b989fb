# SPDX-License-Identifier: BSD-3-Clause
"""Debian packages of any architecture, unpacked into a folder and not installed.

apt gets lists and a cache of its own for each architecture, so neither root nor a change of the system is needed.
The packages are those of the machine's own sources, or of a named suite of Debian.
"""

import os
import shutil
import subprocess


class Unavailable(Exception):
    """What can't be had here, and why: a reason to skip."""


APT_CONF = """\
APT::Architecture "{arch}";
#clear APT::Architectures;
APT::Architectures {{ "{arch}"; }};
Dir::State "{root}/state";
Dir::State::status "{root}/status";
Dir::Cache "{root}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Dir::Etc::sourceparts "{root}/sources";
{more}APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "2";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


# A named suite and nothing else. apt would take a package from backports only if it were asked to: here all suites
# are equal, and the newest version counts, which is in stable if backports have nothing newer.
SUITE_CONF = """\
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::preferences "{root}/preferences";
Dir::Etc::preferencesparts "/dev/null";
"""
PREFERENCES = "Package: *\nPin: release a=*\nPin-Priority: 500\n"

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
DEBIAN = "http://deb.debian.org/debian"


def suite_sources(suite):
    """The lines for a suite of Debian, such as trixie or trixie-backports, and for what it builds on."""
    release = suite.removesuffix("-backports")
    lines = [f"{DEBIAN} {release}", f"{DEBIAN}-security {release}-security"]
    if suite != release:
        lines.append(f"{DEBIAN} {suite}")
    return "".join(f"deb [signed-by={KEYS}] {line} main\n" for line in lines)


def security_source(os_release, known):
    """The line for Debian's security updates, which have the newer kernels, if the machine's sources don't: @known are
    the releases in those."""
    fields = dict(line.split("=", 1) for line in os_release.split("\n") if "=" in line)
    release = fields.get("VERSION_CODENAME", "") + "-security"
    if fields.get("ID") != "debian" or release in known or release == "-security":
        return ""
    signed = f"[signed-by={KEYS}] " if os.path.exists(KEYS) else ""
    return f"deb {signed}http://deb.debian.org/debian-security {release} main\n"


def say(text):
    print(text, file=os.sys.stderr, flush=True)


class Packages:
    """The packages of one architecture, in folder @cache: the machine's, or those of @suite of Debian."""

    def __init__(self, arch, cache, suite=""):
        self.arch = arch
        self.suite = suite
        self.root = os.path.abspath(os.path.join(cache, "-".join(filter(None, ("apt", arch, suite)))))
        self.config = os.path.join(self.root, "apt.conf")
        self.updated = self.prepared = False
        self.trouble = ""
        self.known = {}

    def _prepare(self):
        for program in ("apt-get", "apt-cache", "dpkg-deb"):
            if not shutil.which(program):
                raise Unavailable(f"{program} is not there to fetch packages with")
        if self.suite and not os.path.exists(KEYS):
            raise Unavailable(f"{KEYS} is not there, which has the keys of Debian's {self.suite}: "
                              "install debian-archive-keyring")
        if self.prepared:
            return
        self.prepared = True
        for folder in ("state/lists/partial", "cache/archives/partial", "unpacked"):
            os.makedirs(os.path.join(self.root, folder), exist_ok=True)
        with open(os.path.join(self.root, "status"), "a", encoding="utf-8"):
            pass
        with open(self.config, "w", encoding="utf-8") as f:
            more = SUITE_CONF.format(root=self.root) if self.suite else ""
            f.write(APT_CONF.format(arch=self.arch, root=self.root, more=more))
        folder = os.path.join(self.root, "sources")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        if self.suite:
            with open(os.path.join(self.root, "preferences"), "w", encoding="utf-8") as f:
                f.write(PREFERENCES)
            with open(os.path.join(folder, "suite.list"), "w", encoding="utf-8") as f:
                f.write(suite_sources(self.suite))
        else:
            self._prepare_sources(folder)

    def _prepare_sources(self, folder):
        """The machine's, and what they lack."""
        parts = "/etc/apt/sources.list.d"
        for name in os.listdir(parts) if os.path.isdir(parts) else []:
            os.symlink(os.path.join(parts, name), os.path.join(folder, name))
        known = self._apt("apt-get", "indextargets", "--format", "$(RELEASE)").stdout.split()
        with open("/etc/os-release", encoding="utf-8") as f:
            line = security_source(f.read(), known)
        if line:
            with open(os.path.join(folder, "gpamap-beds.list"), "w", encoding="utf-8") as f:
                f.write(line)

    def _apt(self, *command, cwd=None):
        # The lists to clear come from files that are read after $APT_CONFIG, the architecture is wanted before.
        return subprocess.run([command[0], "-c", self.config, *command[1:]], capture_output=True, text=True,
                              cwd=cwd, env={**os.environ, "APT_CONFIG": self.config, "LC_ALL": "C"})

    def update(self):
        """Fetch the lists, once; what is wrong with them is told when a package is asked for that is not there."""
        if self.updated:
            return False
        self._prepare()
        say(f"fetching the package lists for {' '.join(filter(None, (self.arch, self.suite)))}")
        self.known = {}
        said = self._apt("apt-get", "update").stderr.strip().splitlines()
        self.trouble = f" ({said[0]})" if said else ""
        self.updated = True
        return True

    def fields(self, package):
        """The control fields of the newest version, or None."""
        self._prepare()
        if package in self.known:
            return self.known[package]
        run = self._apt("apt-cache", "show", "--no-all-versions", package)
        if run.returncode and self.update():
            return self.fields(package)
        if run.returncode:
            return None
        pairs = (line.split(": ", 1) for line in run.stdout.splitlines() if line[:1] not in ("", " "))
        self.known[package] = {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
        return self.known[package]

    def depends(self, package):
        """Names of the packages that it needs, the first one of alternatives."""
        wanted = (self.fields(package) or {}).get("Depends", "")
        return [one.split("|")[0].split("(")[0].split(":")[0].strip() for one in wanted.split(",") if one]

    def fetch(self, package):
        """The folder into which the package is unpacked."""
        folder = os.path.join(self.root, "unpacked", package)
        if os.path.isdir(folder):
            return folder
        if not self.fields(package):
            raise Unavailable(f"no package {package} of architecture {self.arch}{self.trouble}")
        downloads = os.path.join(self.root, "download-" + package)
        shutil.rmtree(downloads, ignore_errors=True)
        os.makedirs(downloads)
        say(f"fetching {package} ({self.arch})")
        run = self._apt("apt-get", "download", package, cwd=downloads)
        if run.returncode and self.update():
            return self.fetch(package)
        debs = [os.path.join(downloads, name) for name in os.listdir(downloads) if name.endswith(".deb")]
        if run.returncode or len(debs) != 1:
            last = (run.stderr.strip() or "no answer").splitlines()[-1]
            raise Unavailable(f"{package} of architecture {self.arch} can't be fetched: {last}")
        # Under its own name only when it is whole.
        shutil.rmtree(folder + ".new", ignore_errors=True)
        subprocess.run(["dpkg-deb", "-x", debs[0], folder + ".new"], check=True)
        os.rename(folder + ".new", folder)
        shutil.rmtree(downloads)
        return folder

    def fetch_all(self, packages, skip):
        """Fetch packages and what they need, but for names that begin with one of @skip. The folders."""
        todo, done = list(packages), {}
        while todo:
            package = todo.pop()
            if package not in done and not package.startswith(skip):
                done[package] = self.fetch(package)
                todo += self.depends(package)
        return list(done.values())
