"""znn-hub on a cache filled by huggingface_hub itself, from a Hub on loopback."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

for needed in ("torch", "transformers", "huggingface_hub"):
    pytest.importorskip(needed)
pytestmark = pytest.mark.hf

from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

import znn.transformers  # noqa: E402
from hf_models import FIVE, assert_same, contents, make  # noqa: E402
from hub_server import Hub  # noqa: E402
from znn import _cache, _models  # noqa: E402
from znn._cache import Busy, CachedModel  # noqa: E402
from znn.hub import main  # noqa: E402

NAME = "org/llama"
FOLDER = "models--org--llama"


@pytest.fixture(scope="module")
def hub():
    with Hub() as server:
        yield server


@pytest.fixture(scope="module")
def plain(tmp_path_factory, hub):
    """A model's folder, which the Hub has as org/llama."""
    folder = make("llama in shards", tmp_path_factory.mktemp("model") / "plain")
    hub.push(NAME, folder)
    return folder


@pytest.fixture
def cache(tmp_path, hub, plain):
    """A cache with org/llama, downloaded."""
    download(hub, tmp_path / "cache")
    return tmp_path / "cache"


def download(hub, cache, **arguments):
    return snapshot_download(NAME, endpoint=hub.url, cache_dir=cache, **arguments)


def load(cache, revision=None):
    # By its path: given a name, from_pretrained would ask a Hub for adapters. The programs below give the name.
    folder = snapshot_download(NAME, cache_dir=cache, local_files_only=True, revision=revision)
    return AutoModelForCausalLM.from_pretrained(folder)


def look(cache):
    """What is in a model's folder of the cache: links with targets, files with digests. Locks are not looked at."""
    folder = cache / FOLDER
    links = {path.relative_to(folder).as_posix(): os.readlink(path) for path in folder.rglob("*") if path.is_symlink()}
    files = {name: digest for name, digest in contents(folder).items() if name not in links}
    return links, files


def compress(cache, *more):
    return main(["compress", NAME, "--cache-dir", str(cache), *more])


def decompress(cache):
    return main(["decompress", NAME, "--cache-dir", str(cache)])


def test_a_compressed_model_loads_with_the_same_weights(cache, plain):
    assert compress(cache) == 0
    assert_same(AutoModelForCausalLM.from_pretrained(plain), load(cache))


def test_the_scan_accounts_for_it_without_a_warning(cache):
    before = scan_cache_dir(cache)
    compress(cache)
    after = scan_cache_dir(cache)
    assert not after.warnings
    assert after.size_on_disk < 0.75 * before.size_on_disk
    (repo,) = after.repos
    # Nothing lies in the cache that the scan does not know of.
    assert repo.size_on_disk == sum(path.stat().st_size for path in (cache / FOLDER / "blobs").iterdir())


@pytest.mark.skipif(not FIVE, reason="an older huggingface_hub has another command")
def test_the_hubs_own_command_lists_it(cache):
    compress(cache)
    command = [os.path.join(os.path.dirname(sys.executable), "hf"), "cache", "ls", "--cache-dir", str(cache), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    assert NAME in found["id"]
    assert found["size"] == f"{scan_cache_dir(cache).size_on_disk / 1000:.1f}K"


def test_refs_and_commits_stay(cache):
    before = scan_cache_dir(cache)
    compress(cache)
    after = scan_cache_dir(cache)
    assert {(r.commit_hash, r.refs) for repo in before.repos for r in repo.revisions} == {
        (r.commit_hash, r.refs) for repo in after.repos for r in repo.revisions
    }


def test_blobs_are_named_by_their_digests(cache):
    compress(cache)
    links, files = look(cache)
    assert {os.path.basename(target) for target in links.values()} == {
        os.path.basename(name) for name in files if name.startswith("blobs/")
    }
    for name, digest in files.items():
        if name.startswith("blobs/") and len(os.path.basename(name)) == 64:
            assert digest == os.path.basename(name)
    assert main(["verify", NAME, "--cache-dir", str(cache)]) == 0


def test_decompressing_restores_every_blob_link_and_name(cache):
    before = look(cache)
    assert compress(cache) == 0
    assert look(cache) != before
    assert decompress(cache) == 0
    assert look(cache) == before


def test_decompressing_where_a_link_has_become_a_file(cache):
    before, _ = look(cache)
    compress(cache)
    (manifest,) = (cache / FOLDER / "snapshots").glob("*/znn.json")
    content = manifest.read_bytes()
    manifest.unlink()
    manifest.write_bytes(content)
    assert decompress(cache) == 0
    assert look(cache)[0] == before


def test_again_does_nothing(cache):
    compress(cache)
    before = look(cache)
    assert compress(cache) == 0
    assert look(cache) == before
    decompress(cache)
    before = look(cache)
    assert decompress(cache) == 0
    assert look(cache) == before


def test_files_come_from_the_cache_when_the_hub_is_asked_again(cache, hub):
    compress(cache)
    before = look(cache)
    hub.requests.clear()
    download(hub, cache)
    assert look(cache) == before
    assert not [path for method, path in hub.requests if method == "GET" and ".safetensors" in path]


@pytest.fixture
def two_revisions(tmp_path, hub, plain):
    """A cache with two commits of which one has another config.json and the same weights."""
    other = shutil.copytree(plain, tmp_path / "other")
    config = json.loads((other / "config.json").read_bytes())
    config["rope_theta"] = 77777.0
    (other / "config.json").write_text(json.dumps(config))
    (other / "README.md").write_text("the second")
    repository = "org/llama"
    first = hub.refs[repository]["main"]
    second = hub.push(repository, other, branch="second")
    for revision in ("main", "second"):
        download(hub, tmp_path / "cache", revision=revision)
    yield tmp_path / "cache", first, second
    del hub.refs[repository]["second"]


def test_every_revision_loads_as_it_did(two_revisions):
    cache, first, second = two_revisions
    before = {revision: load(cache, revision=revision) for revision in (first, second, "second")}
    assert compress(cache) == 0
    for revision, model in before.items():
        assert_same(model, load(cache, revision=revision))


def test_weights_that_revisions_share_are_stored_once(two_revisions):
    cache, first, second = two_revisions
    compress(cache)
    links, _ = look(cache)
    for name in _models.weight_files(_restored(cache, first))[0]:
        assert links[f"snapshots/{first}/{name}"] == links[f"snapshots/{second}/{name}"]


def _restored(cache, commit):
    folder = cache / "restored"
    znn.transformers.decompress_model(cache / FOLDER / "snapshots" / commit, folder)
    return folder


def test_two_revisions_come_back(two_revisions):
    cache, _, _ = two_revisions
    before = look(cache)
    compress(cache)
    decompress(cache)
    assert look(cache) == before


def test_a_commit_downloaded_afterwards_is_plain_and_loads(cache, hub, plain, tmp_path):
    compress(cache)
    newer = shutil.copytree(plain, tmp_path / "newer")
    (newer / "README.md").write_text("newer")
    commit = hub.push(NAME, newer, branch="newer")
    download(hub, cache, revision="newer")
    assert contents(cache / FOLDER / "snapshots" / commit) == contents(newer)
    assert_same(load(cache), load(cache, revision=commit))
    del hub.refs[NAME]["newer"]


def test_a_revision_can_be_deleted_afterwards(two_revisions):
    cache, first, second = two_revisions
    compress(cache)
    kept = load(cache, revision=second)
    scan_cache_dir(cache).delete_revisions(first).execute()
    assert_same(kept, load(cache, revision=second))
    assert decompress(cache) == 0
    assert_same(kept, load(cache, revision=second))


# ---- Others at work ----


def test_a_download_under_way_is_not_disturbed(tmp_path, hub, plain):
    cache = tmp_path / "cache"
    hub.slow = threading.Event()
    try:
        for name in ("config.json", "model.safetensors.index.json"):
            hf_hub_download(NAME, name, endpoint=hub.url, cache_dir=cache)
        thread = threading.Thread(target=download, args=(hub, cache))
        thread.start()
        while not list(cache.rglob("*.incomplete")):
            assert thread.is_alive()
        before = look(cache)[0]
        with pytest.raises(Busy, match="download"):
            CachedModel(NAME, cache).compress()
        assert main(["compress", NAME, "--cache-dir", str(cache)]) == 1
        assert before.items() <= look(cache)[0].items()
    finally:
        hub.slow.set()
        thread.join()
        hub.slow = None
    assert compress(cache) == 0
    assert_same(AutoModelForCausalLM.from_pretrained(plain), load(cache))


def test_two_runs_at_once_are_refused(cache):
    with CachedModel(NAME, cache).locked(), pytest.raises(Busy, match="another znn-hub"):
        CachedModel(NAME, cache).compress()


def test_a_file_downloaded_in_the_last_moment_is_kept(cache, monkeypatch):
    swap = _cache.exchange

    def late(tree, new):
        (commit,) = tree.iterdir()
        (tree.parent / "blobs" / "late").write_text("late")
        os.symlink("../../blobs/late", commit / "late.txt")
        swap(tree, new)

    monkeypatch.setattr(_cache, "exchange", late)
    assert compress(cache) == 0
    (commit,) = (cache / FOLDER / "snapshots").iterdir()
    assert (commit / "late.txt").read_text() == "late"
    assert not (cache / FOLDER / ".znn").exists()


# ---- Runs that are killed ----

STEPS = [
    (os, "rename"),
    (os, "replace"),
    (os, "link"),
    (os, "symlink"),
    (os, "unlink"),
    (os, "mkdir"),
    (os, "rmdir"),
    (_cache, "exchange"),
]


def run_and_kill(work, at):
    """Run work() in a child that dies at its step number `at`, undone. True if it came to its end instead."""
    child = os.fork()
    if child == 0:
        left = [at]

        def counted(function):
            def call(*arguments, **named):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return function(*arguments, **named)

            return call

        for module, name in STEPS:
            setattr(module, name, counted(getattr(module, name)))
        try:
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 0


@pytest.mark.parametrize("exchange", ["one call", "three renames"])
@pytest.mark.parametrize("back", [False, True], ids=["compress", "decompress"])
def test_a_killed_run_leaves_either_state_and_the_next_cleans_up(cache, tmp_path, back, exchange, monkeypatch):
    if exchange == "three renames":
        monkeypatch.setattr(_cache.ctypes, "CDLL", lambda *arguments, **named: object())
    pristine = look(cache)
    compress(cache)
    compressed = look(cache)
    if not back:
        decompress(cache)
    start, end = (compressed, pristine) if back else (pristine, compressed)
    copy = tmp_path / "copy"

    def work():
        model = CachedModel(NAME, copy)
        model.decompress(1) if back else model.compress(threads=1)

    seen, at, done = set(), 0, False
    while not done:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(cache, copy, symlinks=True)
        done = run_and_kill(work, at)
        at += 1
        links, files = look(copy)
        if exchange == "one call" or (copy / FOLDER / "snapshots").exists():
            state = {name: target for name, target in links.items() if name.startswith("snapshots/")}
            assert state in (start[0], end[0]), f"a mixture after step {at}"
            seen.add(state == end[0])
            for name, target in state.items():
                blob = f"blobs/{os.path.basename(target)}"
                assert files[blob] == (end if state == end[0] else start)[1][blob]
            assert not scan_cache_dir(copy).warnings
        work()
        assert look(copy) == end
    assert seen == {False, True} and at > 20


@pytest.mark.parametrize("back", [False, True], ids=["compress", "decompress"])
def test_a_run_killed_at_any_time_leaves_either_state(cache, tmp_path, back):
    """By the signal itself, twenty times while it works."""
    states = [look(cache)]
    compress(cache)
    states.append(look(cache))
    if not back:
        decompress(cache)
    copy = tmp_path / "copy"

    def work():
        model = CachedModel(NAME, copy)
        model.decompress(1) if back else model.compress(threads=1)

    def restart():
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(cache, copy, symlinks=True)

    restart()
    begin = time.monotonic()
    work()
    takes = time.monotonic() - begin
    for i in range(20):
        restart()
        child = os.fork()
        if child == 0:
            try:
                work()
            finally:
                os._exit(0)
        time.sleep(takes * i / 18)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        links, files = look(copy)
        state = {name: target for name, target in links.items() if name.startswith("snapshots/")}
        (found,) = [i for i, (known, _) in enumerate(states) if state == known]
        for target in state.values():
            blob = f"blobs/{os.path.basename(target)}"
            assert files[blob] == states[found][1][blob]
        assert not scan_cache_dir(copy).warnings
        work()
        assert look(copy) == states[not back]


def test_an_error_midway_leaves_the_model_as_it_was(cache, monkeypatch):
    before = look(cache)

    def fail(first, second):
        raise OSError("no such luck")

    monkeypatch.setattr(_cache, "exchange", fail)
    assert compress(cache) == 1
    assert look(cache) == before


# ---- What is refused, and said ----


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()
    path.write_bytes(data)


def test_verify_finds_damage_and_names_it(cache, capsys):
    compress(cache)
    (commit,) = (cache / FOLDER / "snapshots").iterdir()
    shard = sorted(commit.glob("*.safetensors"))[0]
    damage(cache / FOLDER / "blobs" / os.path.basename(os.readlink(shard)))
    assert main(["verify", NAME, "--cache-dir", str(cache)]) == 1
    assert shard.name in capsys.readouterr().err
    before = look(cache)
    assert decompress(cache) == 1
    assert look(cache) == before


def test_a_damaged_blob_is_not_compressed(cache, capsys):
    (commit,) = (cache / FOLDER / "snapshots").iterdir()
    shard = sorted(commit.glob("*.safetensors"))[0]
    damage(cache / FOLDER / "blobs" / os.path.basename(os.readlink(shard)))
    before = look(cache)
    assert compress(cache) == 1
    assert "not its digest" in capsys.readouterr().err
    assert look(cache) == before


def test_an_unknown_model_is_an_error_in_one_line(tmp_path, capsys):
    assert main(["compress", "no/such", "--cache-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("znn-hub: no/such: not in the cache")


def test_a_model_without_weights_is_refused(tmp_path, hub, plain, capsys):
    hf_hub_download(NAME, "config.json", endpoint=hub.url, cache_dir=tmp_path)
    assert compress(tmp_path) == 1
    assert "no model.safetensors" in capsys.readouterr().err


def test_ls_tells_what_compressing_saves(cache, capsys):
    assert main(["ls", "--cache-dir", str(cache)]) == 0
    before = capsys.readouterr().out
    (line,) = [line for line in before.splitlines() if line.startswith(NAME)]
    estimated = float(line.split()[-2])
    compress(cache)
    capsys.readouterr()
    assert main(["ls", "--cache-dir", str(cache)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(NAME)]
    assert "(compressed)" in line
    assert abs(float(line.split()[-3]) - estimated) < 1


def test_ls_of_no_cache_is_empty(tmp_path, capsys):
    assert main(["ls", "--cache-dir", str(tmp_path / "none")]) == 0
    assert "0 models" in capsys.readouterr().out


def test_ls_plots(cache, tmp_path):
    pytest.importorskip("matplotlib")
    assert main(["ls", "--cache-dir", str(cache), "--plot", str(tmp_path / "plot.png")]) == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_a_summary_says_what_was_saved(cache, capsys):
    compress(cache)
    out, err = capsys.readouterr()
    assert "compressed 1 snapshot" in out and "% saved" in out
    assert not err  # no bar where there is no terminal


def test_a_repository_in_the_cache_can_be_the_source(cache, tmp_path, plain):
    znn.transformers.compress_model(NAME, tmp_path / "compressed", cache_dir=cache)
    assert_same(
        AutoModelForCausalLM.from_pretrained(plain), AutoModelForCausalLM.from_pretrained(tmp_path / "compressed")
    )


# ---- The whole story, in programs ----

PROGRAM = """
import hashlib, torch
from transformers import AutoModelForCausalLM
digest = hashlib.sha256()
for name, tensor in AutoModelForCausalLM.from_pretrained("org/llama", dtype="auto").state_dict().items():
    digest.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
print(digest.hexdigest())
"""


def test_programs_use_the_hub_before_and_after(tmp_path, hub, plain):
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(*arguments, **more):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=300,
        )

    first = run(tmp_path / "program.py")
    assert first.returncode == 0, first.stderr
    done = run("-m", "znn.hub", "compress", NAME)
    assert done.returncode == 0, done.stderr
    hub.requests.clear()
    again = run("-m", "znn", "run", tmp_path / "program.py")
    assert again.returncode == 0, again.stderr
    assert again.stdout == first.stdout
    assert not [path for method, path in hub.requests if method == "GET" and ".safetensors" in path]
    offline = run("-m", "znn", "run", tmp_path / "program.py", HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stdout) == (0, first.stdout), offline.stderr
    if FIVE:
        without = run(tmp_path / "program.py", HF_HUB_OFFLINE="1")
        assert without.returncode != 0 and "pip install 'znn[hf]'" in without.stderr


def test_blobs_shared_between_repositories_are_given_back(cache):
    """Newer versions of huggingface_hub keep blobs in one place for all repositories, and link to them."""
    shared = pytest.importorskip("huggingface_hub.utils._shared_blobs")
    publish = getattr(shared, "publish_blob_to_shared_store", None)
    if publish is None:
        pytest.skip("this huggingface_hub shares no blobs")
    (commit,) = (cache / FOLDER / "snapshots").iterdir()
    names = {os.path.basename(os.readlink(path)) for path in commit.glob("*.safetensors")}
    for i, name in enumerate(sorted(names)):
        blob = cache / FOLDER / "blobs" / name
        assert publish(
            blob_path=str(blob),
            xet_hash=f"{i:064x}",
            cache_dir=str(cache),
            expected_size=blob.stat().st_size,
            replace_existing=False,
        )
        assert blob.is_symlink()
    before = load(cache)
    digests = {name: _models.file_digest(cache / FOLDER / "blobs" / name) for name in names}
    assert compress(cache) == 0
    assert not [path for path in (cache / "blobs").rglob("*") if len(path.name) == 64], "the space was not given back"
    assert_same(before, load(cache))
    assert not scan_cache_dir(cache).warnings
    assert decompress(cache) == 0
    assert {name: _models.file_digest(cache / FOLDER / "blobs" / name) for name in names} == digests
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(cache)
