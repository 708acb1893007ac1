"""The Hugging Face Hub: a model goes there with its card, and comes from there checked."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from innerloop.data.paths import cache_root
from innerloop.errors import InnerloopError, brief, did_you_mean, quoted
from innerloop.runs import RunFolder
from innerloop.runs.files import read_object
from innerloop.sharing.bundle import CARD, CLASSIFIER, MANIFEST, PATTERNS, checked, kept, refuse_code
from innerloop.sharing.export import export_classifier, export_run
from innerloop.sharing.shipped import SHIPPED, unpacked

_LACKING = "the Hub needs the package huggingface_hub: pip install 'innerloop[hub]'"


def from_pretrained(name: str, *, revision: str | None = None) -> Path:
    """A trained model by name: one of the package ("glyphs-5way-1shot-maml"), or "owner/name" of the Hub.

    Gives the path of a run folder (for `load_run`, `FewShotClassifier(model=path)`, the command line) or of a saved
    classifier (for `FewShotClassifier.load`), in the user's cache folder. What comes from the Hub (extra `hub`) is
    compared with the sums that it was exported with; nothing in it is run. `revision` is a branch, tag or commit.
    Raises InnerloopError for an unknown name, and for a model that cannot be had, was cut off, or was changed.
    """
    if "/" not in name:
        if name not in SHIPPED:
            near = did_you_mean(name, SHIPPED)
            raise InnerloopError(
                f"there is no model {quoted(name)}; there are {', '.join(SHIPPED)}, and owner/name of the Hub{near}"
            )
        return unpacked(name)
    hub = _hub()
    with _sentences(name):
        found = Path(hub.snapshot_download(name, revision=revision, allow_patterns=PATTERNS))
    kind, files = checked(found, name)
    if kind == "run":
        refuse_code(read_object(found / "config.json"), name)

    def copy(part: Path) -> None:
        for file in (*files, MANIFEST, *([CARD] if (found / CARD).is_file() else [])):
            (part / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found / file, part / file)

    home = kept(cache_root() / "models" / found.name[:12] / name.replace("/", "--"), copy)
    return home / CLASSIFIER if kind == "classifier" else home


def push_to_hub(source: str | os.PathLike[str], name: str, *, public: bool = False) -> str:
    """Upload a run folder or a saved classifier to "owner/name" of the Hub, with its model card; gives the address.

    A repository that is not there is made, private unless `public`. The access token comes from `hf auth login` or
    HF_TOKEN. Raises InnerloopError if the Hub refuses.
    """
    hub = _hub()
    export = export_run if RunFolder(Path(source)).exists else export_classifier
    with tempfile.TemporaryDirectory() as there:
        out = export(source, Path(there) / "model", name=name)
        with _sentences(name):
            api = hub.HfApi(library_name="innerloop")
            made = api.create_repo(name, private=not public, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=out, commit_message="Model exported by innerloop")
    return str(made)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ImportError(_LACKING) from None
    return huggingface_hub


@contextmanager
def _sentences(name: str) -> Iterator[None]:
    """What the Hub or the network refuses, in one sentence."""
    from huggingface_hub import errors

    try:
        yield
    except errors.RepositoryNotFoundError:
        raise InnerloopError(
            f"the Hub has no model {quoted(name)}, or not for you: check the name, or log in with 'hf auth login'"
        ) from None
    except errors.RevisionNotFoundError:
        raise InnerloopError(f"the model {quoted(name)} has no such revision on the Hub") from None
    except errors.HFValidationError as error:
        raise InnerloopError(f"{quoted(name)} is no name on the Hub (owner/name): {brief(error)}") from None
    except (OSError, errors.HTTPError) as error:  # pyright: ignore[reportPrivateImportUsage]
        raise InnerloopError(f"{name} cannot be had from or brought to the Hub: {brief(error)}") from error
