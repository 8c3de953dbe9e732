"""An installed znn is found and used by others: by pkg-config, by CMake, by man."""

import os
import re
import subprocess

import pytest
from conftest import ROOT

PROGRAM = """
#include <string.h>
#include <znn.h>
int main(void)
{
    static unsigned char frame[100000], back[1000], src[1000];
    uint64_t size, restored;
    return strcmp(znn_version(), ZNN_VERSION_STRING) != 0 ||
           znn_compress(frame, sizeof frame, &size, src, sizeof src, NULL) != ZNN_OK || size >= sizeof src ||
           znn_decompress(back, sizeof back, &restored, frame, size, NULL) != ZNN_OK || restored != sizeof src ||
           memcmp(src, back, sizeof src) != 0;
}
"""

CMAKE_PROJECT = """
cmake_minimum_required(VERSION 3.18)
project(consumer C)
find_package(znn 0.1 REQUIRED CONFIG)
foreach(kind shared static)
    add_executable(with_${kind} main.c)
    target_link_libraries(with_${kind} PRIVATE znn::${kind})
endforeach()
"""


def run(*command, **kwargs):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A whole `make install` with PREFIX and DESTDIR, from a build of its own; the prefix as it lies here."""
    folder = tmp_path_factory.mktemp("install")
    # Not the make that may be running this test: its flags would be taken over.
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")}
    run("make", "install", f"BUILD={folder / 'build'}", "PREFIX=/opt/some-place",
        f"DESTDIR={folder / 'root'}", cwd=ROOT, env=environment)
    assert os.listdir(folder / "root") == ["opt"]
    return folder / "root/opt/some-place"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "main.c"
    path.write_text(PROGRAM)
    return path


def test_installs_what_others_need(installed):
    have = {str(path.relative_to(installed)) for path in installed.rglob("*")}
    for name in ("bin/znn", "include/znn.h", "lib/libznn.a", "lib/libznn.so", "lib/pkgconfig/znn.pc",
                 "lib/cmake/znn/znnConfig.cmake", "share/man/man1/znn.1"):
        assert name in have
    assert [name for name in have if name.endswith(".h")] == ["include/znn.h"]


def test_installed_command_runs(installed):
    assert "0.1.0" in run(installed / "bin/znn", "--version")


@pytest.mark.parametrize("how", ["shared", "static"])
def test_found_by_pkg_config(how, installed, source, tmp_path):
    environment = {**os.environ, "PKG_CONFIG_PATH": str(installed / "lib/pkgconfig")}
    flags = run("pkg-config", "--cflags", "--libs", *(["--static"] if how == "static" else []), "znn",
                env=environment).split()
    if how == "static":
        flags = [str(installed / "lib/libznn.a") if flag == "-lznn" else flag for flag in flags]
    run("cc", "-Wall", "-Werror", source, "-o", tmp_path / "program", *flags)
    run(tmp_path / "program", env={**os.environ, "LD_LIBRARY_PATH": str(installed / "lib")})


def test_found_by_cmake(installed, source, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(CMAKE_PROJECT)
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={installed}")
    run("cmake", "--build", tmp_path / "build")
    for kind in ("shared", "static"):
        run(tmp_path / "build" / f"with_{kind}")


def test_exports_exactly_what_the_header_declares(installed):
    declared = set(re.findall(r"^ZNN_API [^;]*?(\w+)\(", (installed / "include/znn.h").read_text(), re.MULTILINE))
    symbols = run("nm", "-D", "--defined-only", "-P", installed / "lib/libznn.so")
    exported = {line.split()[0].split("@")[0] for line in symbols.splitlines()}
    assert exported == declared


@pytest.mark.parametrize("compiler, standard", [("cc", "c99"), ("cc", "c11"), ("c++", "c++11")])
def test_the_header_is_clean_in_c_and_cplusplus(compiler, standard, installed, tmp_path):
    source = tmp_path / ("only.c" if compiler == "cc" else "only.cc")
    source.write_text("#include <znn.h>\n")
    run(compiler, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", f"-I{installed / 'include'}",
        "-fsyntax-only", source)
