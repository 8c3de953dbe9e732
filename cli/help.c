#include "help.h"

#include <stdio.h>
#include <znn.h>

void version_print(void)
{
    printf("znn %s (%s)\n", znn_version(), znn_isa());
}

void help_print(void)
{
    printf("znn %s: lossless compression for the numbers of neural networks\n", znn_version());
    fputs("\n"
          "Usage: znn [OPTION]... [FILE]...      options and files in any order; - is stdin\n"
          "\n"
          "Start here:\n"
          "  znn model.safetensors         write model.safetensors.znn; the original stays\n"
          "  znn -d model.safetensors.znn  write model.safetensors again, every byte as it was\n"
          "  znn -l model.safetensors.znn  see what was saved, by dtype and by tensor\n"
          "  znn --rm -T0 *.safetensors    all cores; an original is removed once its result is\n"
          "                                verified and on disk\n"
          "  znn -b model.safetensors      size and speed here, in memory; writes nothing\n"
          "\n"
          "What to do (compress, if none of these; one of them):\n"
          "  -d, --decompress   restore; FILE must end in .znn, unless -o or -c says where to\n"
          "  -t, --test         check that files are whole and undamaged\n"
          "  -l, --list         tables of what a file holds; with --json for programs\n"
          "  -b, --benchmark    measure; with --json for programs\n"
          "      --safetensors  make NAME.znn.safetensors of NAME.safetensors, which znn's Python\n"
          "                     package loads and other tools can list; -d, -t and -l know such files\n"
          "      --convert      bring files of the Python package zipnn to znn's format; with --rm\n"
          "                     the result takes the source's place\n"
          "\n"
          "Where to:\n"
          "  -o FILE            the result's name, for one FILE\n"
          "  -c, --stdout       to standard output (the default when reading standard input)\n"
          "  -k, --keep         keep the sources (the default)\n"
          "      --rm           remove each source after its result is verified and on disk\n"
          "  -f, --force        overwrite; follow links; read devices; write to a terminal\n"
          "  -r, --recursive    the files of directories too\n"
          "\n"
          "How:\n"
          "  -1 ... -9          faster ... smaller (default -3); --fast and --best are the ends\n"
          "  -T N               N threads, 0 for all cores (default 1); the bytes are the same\n"
          "      --dtype TYPE   what the numbers are, if it is known and the file does not say:\n"
          "                    ",
          stdout);
    for (int i = 0, column = 0; i < ZNN_DTYPE_COUNT; i++) {
        column += printf(" %s", znn_dtype_name((znn_dtype)i));
        if (column > 50) {
            fputs("\n                    ", stdout);
            column = 0;
        }
    }
    fputs("\n"
          "                     (auto, the default, reads safetensors and probes anything else; another\n"
          "                     overrides a safetensors header. float32, F32 and the like are known too)\n"
          "      --no-check     neither write nor verify checksums\n"
          "      --format F     zipnn: write what the Python package zipnn reads (default znn)\n"
          "      --base FILE    what a delta of zipnn's was made against\n"
          "      --memory SIZE  -d, -t, -l: refuse what needs more than this a thread (default 64M)\n"
          "  -i N               -b: measure for at least N seconds (default 2)\n"
          "      --bench-size N -b: repeat small files to N MB (default 256)\n"
          "\n"
          "What to say:\n"
          "  -q, --quiet        no notes (-qq: no errors either)\n"
          "  -v, --verbose      a line for each file\n"
          "      --json         -l and -b print JSON\n"
          "  -h, --help         this\n"
          "  -V, --version      the version, and the instruction set in use\n"
          "\n"
          "Exit status: 0 all well, 1 bad data or a failed read or write, 2 wrong usage.\n",
          stdout);
}
