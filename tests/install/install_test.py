# SPDX-License-Identifier: GPL-2.0-only OR MIT
"""What `meson install` leaves works in its place: the command, and programs built with pkg-config."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE, BUILD = (Path(path).resolve() for path in sys.argv[1:3])
SKIPPED = 77

PROGRAM = r"""
#include <noexit-kvm.h>
#include <errno.h>
#include <linux/kvm.h>
#include <stdio.h>

static int lines;

static void count(const char *line)
{
	lines += *line != 0;
}

int main(void)
{
	struct nx_config config;
	struct nx_kvm_totals totals;

	nx_config_default(&config);
	nx_kvm_log(count);
	printf("%d %d ", config.max_gap > 0, nx_engine_arena_size() > 4096);
	printf("%d ", nx_ioctl(-1, KVM_RUN, 0) == -1 && errno == EBADF);
	printf("%d ", nx_close(-1) == -1 && errno == EBADF);
	printf("%d %d ", !nx_kvm_option("latency", "70"), !nx_kvm_option("off", "1"));
	printf("[%s] [%s] ", nx_kvm_option("level", "high"), nx_kvm_option("speed", "1"));
	nx_kvm_memory_changes(&config, sizeof(config));
	nx_kvm_memory_changed(&config, sizeof(config));
	nx_kvm_totals(&totals);
	nx_kvm_report();
	printf("%d %d\n", totals.taken + totals.avoided == 0, lines);
	return 0;
}
"""
ANSWER = ("1 1 1 1 1 1 [must be one of pairs straight dynamic branches loops paths] "
          "[is no option of noexit] 1 1\n")


def run(*command, **options):
    result = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            timeout=600, check=False, **options)
    if result.returncode:
        raise AssertionError(f"{command}: {result.returncode}\n{result.stdout}{result.stderr}")
    return result.stdout


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.root = Path(directory.name) / "root"
        cls.work = Path(directory.name)
        run("meson", "install", "-C", BUILD, "--no-rebuild", "--quiet", "--destdir", cls.root)
        config = next(cls.root.rglob("noexit.pc"))
        cls.libraries = config.parent.parent
        cls.prefix = next(cls.root.rglob("bin/noexit")).parent.parent
        cls.environment = {**os.environ, "PKG_CONFIG_PATH": str(config.parent),
                           "PKG_CONFIG_SYSROOT_DIR": str(cls.root),
                           "LD_LIBRARY_PATH": str(cls.libraries)}

    def config(self, *what):
        return run("pkg-config", *what, "noexit", env=self.environment).split()

    def compile(self, name, source, *flags, compiler="cc"):
        program = self.work / name
        run(compiler, "-Wall", "-Wextra", "-Werror", "-o", program, source,
            *self.config("--cflags"), *flags)
        return program

    def program(self, suffix):
        path = self.work / f"program{suffix}"
        path.write_text(PROGRAM)
        return path

    def answer(self, program, **environment):
        self.assertEqual(run(program, env={**os.environ, **environment}), ANSWER)

    def test_files(self):
        for name in ("bin/noexit", "bin/noexit-qemu-x86_64", "include/noexit.h",
                     "include/noexit-figures.h",
                     "include/noexit-kvm.h", "share/man/man1/noexit.1", "share/man/man3/noexit.3"):
            self.assertTrue((self.prefix / name).is_file(), name)
        for name in ("libnoexit.so", "libnoexit.so.0", "libnoexit.a", "noexit/libnoexit-kvm.so"):
            self.assertTrue((self.libraries / name).is_file(), name)
        self.assertIn("SONAME               libnoexit.so.0\n",
                      run("objdump", "-p", self.libraries / "libnoexit.so"))

    def test_symbols(self):
        """The shared library exports what the headers declare, and nothing else."""
        text = "".join((self.prefix / "include" / name).read_text()
                       for name in ("noexit.h", "noexit-figures.h", "noexit-kvm.h"))
        declared = set(re.findall(r"^NX_API [^(;]*?(nx_\w+)\(", text, re.M))
        self.assertGreater(len(declared), 20)
        exported = {line.split()[2].split("@")[0] for line in
                    run("nm", "-D", "--defined-only", self.libraries / "libnoexit.so").splitlines()}
        self.assertEqual(declared, exported - {"NOEXIT_0"})

    def test_shared(self):
        program = self.compile("shared", self.program(".c"), *self.config("--libs"))
        self.assertIn("libnoexit.so.0", run("objdump", "-p", program))
        self.answer(program, LD_LIBRARY_PATH=str(self.libraries))

    def test_static(self):
        flags = ["-l:libnoexit.a" if flag == "-lnoexit" else flag
                 for flag in self.config("--static", "--libs")]
        program = self.compile("static", self.program(".c"), *flags)
        self.assertNotIn("libnoexit", run("objdump", "-p", program))
        self.answer(program)

    @unittest.skipUnless(shutil.which("c++"), "no C++ compiler")
    def test_cxx(self):
        program = self.compile("cxx", self.program(".cc"), *self.config("--libs"), compiler="c++")
        self.answer(program, LD_LIBRARY_PATH=str(self.libraries))

    def test_example(self):
        """As the head of the file says."""
        program = self.compile("minivmm", SOURCE / "examples/minivmm.c", *self.config("--libs"))
        result = subprocess.run((program,), env=self.environment, stderr=subprocess.PIPE, text=True,
                                check=False)
        self.assertEqual(result.returncode, 2)
        self.assertIn("usage: minivmm", result.stderr)

    def test_command(self):
        """The installed command preloads the installed library."""
        preload = run(self.prefix / "bin/noexit", "run", "--", "sh", "-c", "echo $LD_PRELOAD")
        self.assertEqual(preload.strip(), str(self.libraries / "noexit/libnoexit-kvm.so"))


if __name__ == "__main__":
    for tool in ("pkg-config", "cc", "objdump"):
        if not shutil.which(tool):
            print(f"{tool} is not installed; run 'make deps' as root")
            sys.exit(SKIPPED)
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
