# SPDX-License-Identifier: BSD-3-Clause
"""The kinds of test beds, and the making of what they boot: a kernel and the base of its initramfs."""

import contextlib
import fcntl
import glob
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, replace

import archive
import kernel
from packages import Packages, Unavailable

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CACHE = os.environ.get("GPAMAP_BEDS", os.path.join(ROOT, "build", "beds"))

HOST_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


@dataclass(frozen=True)
class Kind:
    """A sort of bed. @kernels: metapackages, each with what the name of its kernel has to begin with. As with apt,
    PACKAGE/SUITE is that of a suite of Debian, whatever the machine has."""

    name: str
    what: str
    arch: str
    kernels: tuple
    qemu: tuple
    console: str
    modules: tuple = ()
    append: str = ""  # to the kernel's command line

    @property
    def threads(self):
        """Has each processor a thread of its own?"""
        return not any("thread=single" in word for word in self.qemu)

    def by_instructions(self):
        """The same with a clock that counts instructions: so it makes no difference to a guest's clocks how busy this
        machine is."""
        at = self.qemu.index("-accel")
        accel = ("-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off")
        return replace(self, qemu=(*self.qemu[:at], *accel, *self.qemu[at + 2:]))


# On a busy machine the kernel gives up at boot when it has waited for the timer in vain: it need not try.
NO_CHECK = "no_timer_check"
# Both processors in one thread, in turns. With a thread for each, vCPUs die at times, whatever changes: see HACKING.md.
SVM = ("qemu-system-x86_64", "-accel", "tcg,thread=single", "-machine", "pc", "-cpu", "qemu64,+svm,+npt")
ARM = ("qemu-system-aarch64", "-accel", "tcg,thread=multi", "-machine", "virt,virtualization=on,gic-version=3",
       "-cpu", "cortex-a72")
# Has pages of 16 KiB, and its kernel and KVM are both in EL2 (VHE).
ARM_N1 = (*ARM[:-1], "neoverse-n1")

# Where the newest kernels are: the backports of Debian's stable release.
BACKPORTS = "trixie-backports"

KINDS = {kind.name: kind for kind in (
    Kind("svm-6.1", "x86-64, kvm_amd with nested paging, Linux 6.1", "amd64",
         (("linux-image-cloud-amd64", "linux-image-6.1."),), SVM, "ttyS0", ("kvm-amd",), NO_CHECK),
    Kind("svm-6.12", "x86-64, kvm_amd with nested paging, Linux 6.12", "amd64",
         (("linux-image-6.12-cloud-amd64", "linux-image-6.12"), ("linux-image-cloud-amd64", "linux-image-6.12")),
         SVM, "ttyS0", ("kvm-amd",), NO_CHECK),
    Kind("svm-newest", "x86-64, kvm_amd with nested paging, the newest Linux that Debian has", "amd64",
         (("linux-image-cloud-amd64/" + BACKPORTS, "linux-image-"),), SVM, "ttyS0", ("kvm-amd",), NO_CHECK),
    Kind("arm64", "arm64 with EL2 and GICv3, Linux 6.12 or the newest there is", "arm64",
         (("linux-image-6.12-arm64", "linux-image-6.12"), ("linux-image-arm64", "linux-image-")), ARM, "ttyAMA0"),
    Kind("arm64-6.1", "arm64 with EL2 and GICv3, Linux 6.1", "arm64",
         (("linux-image-arm64", "linux-image-6.1."),), ARM, "ttyAMA0"),
    Kind("arm64-16k", "arm64 with VHE, GICv3 and pages of 16 KiB, Linux 6.12", "arm64",
         (("linux-image-6.12-arm64-16k", "linux-image-6.12"), ("linux-image-arm64-16k", "linux-image-6.12")),
         ARM_N1, "ttyAMA0"),
    Kind("arm64-newest", "arm64 with EL2 and GICv3, the newest Linux that Debian has", "arm64",
         (("linux-image-arm64/" + BACKPORTS, "linux-image-"),), ARM, "ttyAMA0"),
)}

# What readelf calls the machine, and where the libraries are of programs made for it: {sysroot} is made by cross.py.
MACHINES = {
    "amd64": ("Advanced Micro Devices X86-64",
              ("/usr/local/lib/x86_64-linux-gnu", "/usr/local/lib", "/lib/x86_64-linux-gnu",
               "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")),
    "arm64": ("AArch64",
              ("{sysroot}/lib/aarch64-linux-gnu", "{sysroot}/usr/lib/aarch64-linux-gnu",
               "/usr/aarch64-linux-gnu/lib", "/usr/local/lib/aarch64-linux-gnu", "/lib/aarch64-linux-gnu")),
}
COMPILERS = {"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"}


def sysroot(arch):
    return os.path.join(CACHE, "sysroot-" + arch)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def find_kernel(kind):
    """The package of its kernel, and the Packages that have it."""
    trouble = ""
    for metapackage, prefix in kind.kernels:
        package, _, suite = metapackage.partition("/")
        packages = Packages(kind.arch, CACHE, suite)
        if suite:
            # What was the newest when the lists were fetched need not be it today.
            packages.update()
        for name in packages.depends(package):
            if name.startswith(prefix):
                return name, packages
        trouble = packages.trouble
    wanted = ", ".join(package for package, _ in kind.kernels)
    raise Unavailable(f"no kernel for {kind.name}: none of {wanted} is to be had{trouble}")


def kernel_parts(image, packages, modules):
    """The packages with a kernel's image and @modules. Up to 6.18 all of it is in linux-image-V; since 6.19 that is
    empty, and needs linux-binary-V with the image and linux-modules-V."""
    wanted = ("linux-binary-", "linux-modules-") if modules else ("linux-binary-",)
    return [name for name in packages.depends(image) if name.startswith(wanted)] or [image]


def find_image(folders):
    """The kernel's image in what was unpacked."""
    images = [path for folder in folders for pattern in ("boot/vmlinuz*", "usr/lib/modules/*/vmlinuz")
              for path in glob.glob(os.path.join(folder, pattern))]
    if len(images) != 1:
        raise Unavailable(f"{len(images)} kernel images in {', '.join(folders)}, where one is expected")
    return images[0]


def compile_keep(kind, output):
    """The program that keeps a VM, for the bed's processor."""
    compiler = "cc" if kind.arch == HOST_ARCH else COMPILERS[kind.arch]
    if not shutil.which(compiler):
        raise Unavailable(f"{compiler} is not installed")
    source = os.path.join(HERE, "keep.c")
    run = subprocess.run([compiler, "-O2", "-static", "-o", output, source], capture_output=True, text=True)
    if run.returncode:
        raise Unavailable(f"{compiler} can't build {source}: {run.stderr}")


def base_archive(kind, kernel_folders, busybox):
    a = archive.Archive()
    a.shell(read(busybox))
    a.link("sbin", "bin")
    a.folder("bed/modules")
    order = kernel.modules(kernel_folders, kind.modules)
    missing = {name.replace("-", "_") for name in kind.modules} - {name for name, _ in order}
    if missing:
        raise Unavailable(f"{kind.name}: its kernel has no module {', '.join(sorted(missing))}")
    for name, content in order:
        a.file(f"bed/modules/{name}.ko", content)
    return a.content(), [name for name, _ in order]


def find_busybox(folder):
    for place in ("bin/busybox", "usr/bin/busybox"):
        if os.path.exists(os.path.join(folder, place)):
            return os.path.join(folder, place)
    raise Unavailable("busybox-static has no busybox")


@contextlib.contextmanager
def making():
    """One makes things in the cache at a time; others wait, and then find them made."""
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def origin(kind):
    """What a bed's folder was made for. By which QEMU it is run makes no difference."""
    return repr(KINDS[kind.name]).encode()


def make(kind):
    """Folder with the kernel, the base and the VM's keeper of a bed; made as far as it is not there."""
    if not shutil.which(kind.qemu[0]):
        raise Unavailable(f"{kind.qemu[0]} is not installed")
    folder = os.path.join(CACHE, kind.name)
    keep = os.path.join(folder, "keep")
    made = os.path.join(folder, "kind")
    with making():
        if not os.path.exists(made) or read(made) != origin(kind):
            make_folder(kind, folder)
        if not os.path.exists(keep) or os.stat(keep).st_mtime < os.stat(os.path.join(HERE, "keep.c")).st_mtime:
            compile_keep(kind, keep)
    return folder


def make_folder(kind, folder):
    """Fetch and unpack a kernel, its modules and busybox."""
    busybox = find_busybox(Packages(kind.arch, CACHE).fetch("busybox-static"))
    name, packages = find_kernel(kind)
    unpacked = [packages.fetch(part) for part in kernel_parts(name, packages, kind.modules)]
    content, names = base_archive(kind, unpacked, busybox)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder + ".new", exist_ok=True)
    image = kernel.image(read(find_image(unpacked)))
    for name, data in (("kernel", image), ("base.cpio", content), ("modules", "\n".join(names).encode()),
                       ("kind", origin(kind))):
        with open(os.path.join(folder + ".new", name), "wb") as f:
            f.write(data)
    os.rename(folder + ".new", folder)
    # Half a gigabyte of modules.
    for one in unpacked:
        shutil.rmtree(one)
