"""Handlers of the page's messages to a widget.

For: requests that are not traits: clicks, files, maps, undo. Each is first checked against
`blip_trace_widget.display.protocol`.
Ends: at the widget's session.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blip_trace_widget.checks import one_of, whole_number
from blip_trace_widget.demo import BUILT_IN
from blip_trace_widget.display import export, protocol
from blip_trace_widget.pictures import as_image
from blip_trace_widget.states import BLOCKS, SITES
from blip_trace_widget.widget import documents
from blip_trace_widget.widget.inputs import Picture

if TYPE_CHECKING:
    from blip_trace_widget.widget.trait_view import TraitView


def handle(widget: TraitView, content: Any, buffers: Sequence[Any] | None) -> None:
    """Acknowledge a message and handle it.

    Raises:
        TypeError, ValueError: if it is not a valid request, naming what is wrong with it.
    """
    request: Any = protocol.parse_request(content)
    widget._observers.heard()
    widget.say({"type": "taken", "id": request["id"], "generation": widget.generation})
    HANDLERS[request["type"]](widget, request, buffers)


def _hello(_widget: TraitView, _request: protocol.HelloRequest, _buffers: Any) -> None:
    """The acknowledgement shows that there is a kernel; the version is checked with the message's shape."""


def _patch(widget: TraitView, request: protocol.PatchRequest, _buffers: Any) -> None:
    with widget._session.lock:
        widget._change(request=request["id"], selection=widget._cells_of(widget.block, request["cells"]))


def _walk(widget: TraitView, request: protocol.WalkRequest, _buffers: Any) -> None:
    with widget._session.lock:
        receivers = widget._checked_states("receivers", request["receivers"])
        path = widget._checked_path(request["path"])
        block, head = one_of("block", request["block"], BLOCKS), request["head"]
        if head is not None:
            whole_number("head", head, 0, widget.tracer.model.blocks[block].heads - 1)
        grid: Any = {"block": block, "site": one_of("site", request["site"], SITES), "head": head}
        cells = widget._cells_of(block, request["cells"])
        widget._change(**grid, receivers=receivers, path=path, selection=cells, arrow=False)
        if receivers is not None and widget.receivers is not None:
            widget._session.trace_all(request["id"])


def _trace(widget: TraitView, request: protocol.TraceRequest, _buffers: Any) -> None:
    widget._session.trace_all(request["id"])


def _stop(widget: TraitView, _request: Any, _buffers: Any) -> None:
    widget._session.stop()


def _fill_overlay(widget: TraitView, request: protocol.FillOverlayRequest, _buffers: Any) -> None:
    overlay_job = widget._session.overlay_job
    with widget._session.lock:
        if request["on"]:
            overlay_job.resume()
        else:
            overlay_job.stop()


def _set_region(widget: TraitView, request: protocol.SetRegionRequest, _buffers: Any) -> None:
    mask: NDArray[np.bool_] = np.zeros(widget.tracer.model.grid, dtype=bool)
    with widget._session.lock:
        for place in documents.marked(widget):
            mask[place] = True
    widget.region = {"marked": mask, "others": ~mask, "all": None}[request["to"]]


def _attention(widget: TraitView, request: protocol.AttentionRequest, _buffers: Any) -> None:
    layer = whole_number("layer", request["layer"], 0, len(widget.tracer.model.blocks["question_encoder"].layers) - 1)
    with widget._session.lock:
        widget._session.overlay_job.send_attention(layer, request["id"])


def _image(widget: TraitView, _request: Any, buffers: Any) -> None:
    content = _picture_in(buffers)
    widget._session.later(lambda: widget._change(picture=Picture(as_image(content))), "picture")


def _other_image(widget: TraitView, _request: Any, buffers: Any) -> None:
    content = _picture_in(buffers)

    def swap_in() -> None:
        other = Picture(as_image(content))
        _ = other.jpeg, other.swap  # not under the lock, which a handler may be waiting for
        widget._change(other=other, corruption="ImageSwap")

    widget._session.later(swap_in, "other picture")


def _pin(widget: TraitView, request: protocol.PinRequest, _buffers: Any) -> None:
    widget._session.pin(request["on"])


def _compare(widget: TraitView, request: protocol.CompareRequest, _buffers: Any) -> None:
    widget.compare(request["on"])


def _also_under(widget: TraitView, request: protocol.AlsoUnderRequest, _buffers: Any) -> None:
    widget.also_under(request["under"])


def _verify(widget: TraitView, request: protocol.VerifyRequest, _buffers: Any) -> None:
    widget._session.verify(request["id"])


def _find(widget: TraitView, request: protocol.FindRequest, _buffers: Any) -> None:
    share = request["percent"]
    if not 0 < share <= 100:
        raise ValueError(f"percent: expected above 0 and up to 100, got {share}")
    widget._session.find(request["id"], target=share / 100, among=request["among"], direction=request["direction"])


def _flow(widget: TraitView, request: protocol.FlowRequest, _buffers: Any) -> None:
    widget._session.flow(request["id"])


def _member(widget: TraitView, request: protocol.MemberRequest, _buffers: Any) -> None:
    widget._session.show_member(request["index"])


def _undo(widget: TraitView, _request: Any, _buffers: Any) -> None:
    widget.undo()


def _redo(widget: TraitView, _request: Any, _buffers: Any) -> None:
    widget.redo()


def _visible_range(widget: TraitView, request: protocol.VisibleRangeRequest, _buffers: Any) -> None:
    widget._session.set_visible_range(request["first"], request["last"])


def _export(widget: TraitView, request: protocol.ExportRequest, _buffers: Any) -> None:
    name, generation = request["format"], widget.generation
    file, media = export.FILES[name]

    def make() -> None:
        made = documents.content(widget, name, request["theme"])
        content = made if isinstance(made, bytes) else made.encode()
        header = {"type": "exported", "id": request["id"], "generation": generation, "format": name}
        widget.say({**header, "name": file, "media": media}, [content])

    widget._session.later(make)


def _model(widget: TraitView, request: protocol.ModelRequest, _buffers: Any) -> None:
    name = one_of("model", request["name"], BUILT_IN)
    widget._needs_model("model")
    widget._session.later(lambda: setattr(widget, "model", name), "model")


def _called(widget: TraitView, _request: Any, _buffers: Any) -> None:
    widget._observers.deliver()


def _picture_in(buffers: Sequence[Any] | None) -> bytes:
    if not buffers or len(buffers) != 1 or not 0 < len(buffers[0]) <= protocol.MAX_IMAGE_BYTES:
        raise ValueError(f"image: expected one picture file of at most {protocol.MAX_IMAGE_BYTES >> 20} MB")
    return bytes(buffers[0])


#: Type of message -> its handler.
HANDLERS: dict[str, Callable[[TraitView, Any, Any], None]] = {
    "hello": _hello,
    "patch": _patch,
    "walk": _walk,
    "trace": _trace,
    "stop": _stop,
    "fill_overlay": _fill_overlay,
    "set_region": _set_region,
    "attention": _attention,
    "image": _image,
    "other_image": _other_image,
    "pin": _pin,
    "compare": _compare,
    "also_under": _also_under,
    "verify": _verify,
    "find": _find,
    "member": _member,
    "flow": _flow,
    "undo": _undo,
    "redo": _redo,
    "visible_range": _visible_range,
    "export": _export,
    "model": _model,
    "called": _called,
}
