"""The models in service."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from medseg_nca.config.labels import Code, Label
from medseg_nca.serving.catalogue import Served
from medseg_nca.serving.http.running import Client, answers, reader, running

router = APIRouter(prefix="/v1", tags=["models"])


@router.get("/models", responses=answers())
def list_models(request: Request, client: Annotated[Client, Depends(reader)]) -> dict[str, Any]:
    """List the models in service."""
    return {"models": [describe(served) for served in running(request).catalogue.all]}


@router.get("/models/{name}", responses=answers(404))
def get_model(
    request: Request, name: str, client: Annotated[Client, Depends(reader)]
) -> dict[str, Any]:
    """Describe one model, with its card."""
    served = running(request).catalogue.get(name)
    return {**describe(served), "card": served.card}


def describe(served: Served) -> dict[str, Any]:
    """What a client is told of a model."""
    spec, plan = served.spec, served.spec.plan
    return {
        "name": served.entry.name,
        "version": served.info.version,
        "sha256": served.info.sha256,
        "architecture": spec.model.name,
        "members": max(len(spec.members), 1),
        "task": spec.task,
        "dims": plan.dims,
        "channels": list(plan.channels),
        "modality": plan.modality,
        "spacing_mm": None if plan.spacing is None else list(plan.spacing),
        "labels": [_label(label) for label in spec.labels.labels],
        "multi_label": spec.labels.multi_label,
        "metrics": dict(spec.metrics),
        "training_data": spec.training_data,
        "training_data_hash": spec.training_data_hash,
        "package_version": spec.package_version,
        "created": spec.created,
    }


def _label(label: Label) -> dict[str, Any]:
    return {
        "name": label.name,
        "value": label.written,
        "code": _code(label.code),
        "modifier": _code(label.modifier),
    }


def _code(code: Code | None) -> dict[str, str] | None:
    return None if code is None else code.model_dump()
