"""A model of the hub whose files are here already: what the hub's client leaves behind, made by hand."""

import httpx2
import huggingface_hub
import pytest
from huggingface_hub._tree_cache import TreeCacheEntry, write_tree_cache

from tests.tiny import HUB_COMMIT as COMMIT
from tests.tiny import fill_hub_cache
from tests.tract_core.model.test_models import settings
from tract_core.base.errors import UserError
from tract_core.model import models


@pytest.fixture
def hub_cache(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return fill_hub_cache(tmp_path, "owner/tiny", tiny_folder)


@pytest.mark.parametrize("revision", [None, "main", "v1", COMMIT])
def test_a_hub_id_that_is_local_is_found_without_the_hub_and_named_by_its_commit(hub_cache, caplog, revision):
    seed_model = models.resolve(settings("owner/tiny", revision=revision))
    assert seed_model.identity == f"hub:owner/tiny@{COMMIT}"
    assert seed_model.folder == hub_cache
    models.load_tokenizer(seed_model)
    models.load_model(seed_model, "float32")
    pinned = f"revision {revision} is commit {COMMIT}; pin that one"
    assert [record.message for record in caplog.records if pinned in record.message] == (
        [] if revision == COMMIT else [f"model.source owner/tiny: {pinned}"]
    )


def test_a_revision_that_is_not_local_is_a_clear_error(hub_cache):
    with pytest.raises(UserError, match=r"'owner/tiny' \(revision v2\): cannot be fetched from the hub"):
        models.resolve(settings("owner/tiny", revision="v2"))


@pytest.mark.parametrize(
    "failure",
    ["ConnectError", "ConnectTimeout", "ProxyError", "ReadError", "RemoteProtocolError", "UnsupportedProtocol"],
)
def test_however_the_connection_fails_the_local_copy_is_used(hub_cache, monkeypatch, record_property, failure):
    """Also behind a proxy that refuses, where the hub's client by itself gives up."""

    def fail(*args, **kwargs):
        raise getattr(httpx2, failure)("nobody answers")

    for call in ("repo_info", "list_repo_tree"):
        monkeypatch.setattr(huggingface_hub.HfApi, call, fail)
    assert models.resolve(settings("owner/tiny")).identity == f"hub:owner/tiny@{COMMIT}"
    assert models.resolve(settings("owner/tiny", revision=COMMIT)).identity == f"hub:owner/tiny@{COMMIT}"
    with pytest.raises(UserError, match=r"'owner/other' \(revision None\): .*nobody answers"):
        models.resolve(settings("owner/other"))
    record_property("faults_injected", 3)


def test_a_copy_that_lacks_a_file_is_not_used(hub_cache, record_property):
    """An interrupted download; the listing is what the hub's client keeps beside the snapshot."""
    listed = {file.name: TreeCacheEntry(size=file.stat().st_size, blob_id="0" * 40) for file in hub_cache.iterdir()}
    write_tree_cache(str(hub_cache.parents[1]), COMMIT, listed)
    models.resolve(settings("owner/tiny"))
    (hub_cache / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be fetched from the hub"):
        models.resolve(settings("owner/tiny"))
    record_property("faults_injected", 1)
