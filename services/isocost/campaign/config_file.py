"""Reading a campaign file: YAML, checked as a whole before anything is bought."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from isocost.campaign import config as sections
from isocost.campaign import source as source_sections
from isocost.campaign.config import CampaignConfig, DataConfig
from isocost.campaign.pricing import price_sources
from isocost.campaign.source import FileChannel, HumanSource
from isocost.core.errors import InvalidArgumentError
from isocost.resources.method import Recipe

__all__ = ["load_config"]


def load_config(path: Path, *, data: Path | None = None, strong_model: str | None = None) -> CampaignConfig:
    """Reads and checks a campaign file.

    Args:
        path: The YAML file; relative paths in it are relative to its folder.
        data: A file to read items from instead of the one (or the hub dataset) that the campaign file names.
        strong_model: A model folder instead of the one named; also where a weak labeller is named by the same name.

    Raises:
        InvalidArgumentError: names the first field that is wrong, and what to do.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgumentError("CAMPAIGN", f"{str(path)!r} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidArgumentError("CAMPAIGN", f"{str(path)!r} is not YAML: {reason}") from None
    if not isinstance(raw, dict):
        raise InvalidArgumentError("CAMPAIGN", f"{str(path)!r} holds no campaign; see docs/examples for one")
    _override(raw, data, strong_model)
    try:
        config = CampaignConfig.model_validate(raw)
    except ValidationError as error:
        raise _first_error(error) from None
    config = _resolve_paths(config, path.parent)
    config.task.task()
    config.method.method()
    config.check_sources()
    # What a label of a metered source may cost is known once the models are there: here it costs a token.
    price_sources(config, {}).check_affordable()
    return config


def _override(raw: dict[str, Any], data: Path | None, strong_model: str | None) -> None:
    if data is not None and isinstance(raw.get("data"), dict):
        raw["data"].pop("hub", None)
        raw["data"]["path"] = str(data.resolve())
    if strong_model is not None:
        named = raw.get("strong_model")
        raw["strong_model"] = strong_model
        for source in raw.get("sources") or ():
            if isinstance(source, dict) and source.get("model") == named:
                source["model"] = strong_model


def _resolve_paths(config: CampaignConfig, folder: Path) -> CampaignConfig:
    """Makes the file paths absolute, so that a resumed run reads the same files from wherever it is started."""

    def absolute(section: DataConfig) -> DataConfig:
        if section.path is None or section.path == "microworld":
            return section
        return section.model_copy(update={"path": str((folder / section.path).resolve())})

    sources = tuple(
        source.model_copy(
            update={
                "channel": source.channel.model_copy(update={"path": str((folder / source.channel.path).resolve())})
            }
        )
        if isinstance(source, HumanSource) and isinstance(source.channel, FileChannel)
        else source
        for source in config.sources
    )
    return config.model_copy(
        update={
            "data": absolute(config.data),
            "test": absolute(config.test) if config.test else None,
            "sources": sources,
        }
    )


def _first_error(error: ValidationError) -> InvalidArgumentError:
    """One clear message from pydantic's list: where, what, and a near field name for an unknown one."""
    first = error.errors()[0]
    # Tags of discriminated unions stand between the names; a reader of the file does not know them.
    location = [str(part) for part in first["loc"] if part not in ("model", "human", "simulated", "file", "queue")]
    field = ".".join(location) or "CAMPAIGN"
    if first["type"] == "extra_forbidden" or first["type"] == "unexpected_keyword_argument":
        near = difflib.get_close_matches(location[-1], _known_names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "; see docs/campaign_file.md for the known ones"
        return InvalidArgumentError(field, f"unknown field{hint}")
    if first["type"] == "missing":
        return InvalidArgumentError(field, "missing; every campaign file needs it")
    message = first["msg"].removeprefix("Value error, ")
    return InvalidArgumentError(field, f"{message} (given: {first['input']!r})" if location else message)


def _known_names() -> list[str]:
    models = [
        section
        for section in (*vars(sections).values(), *vars(source_sections).values())
        if isinstance(section, type) and issubclass(section, BaseModel)
    ]
    return [*Recipe.__dataclass_fields__, *(name for model in models for name in model.model_fields)]
