"""What a page sends to a widget, and what it would hear, without a page."""

from comm.base_comm import BaseComm


class RecordingComm(BaseComm):
    """A front end that only listens."""

    def __init__(self, *arguments, **keywords):
        self.sent = []
        super().__init__(*arguments, **keywords)

    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        if data and data.get("method") == "update" and keys.get("target_name") is None:
            state = dict(data["state"])
            self.sent.append(("update", state, buffers))
        elif data and data.get("method") == "custom":
            self.sent.append(("custom", data["content"], buffers))

    def events(self, kind):
        return [
            (content, buffers) for how, content, buffers in self.sent if how == "custom" and content["type"] == kind
        ]


def take(widget, content, buffers=()):
    """A message from the front end."""
    widget.comm.handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": list(buffers)})


def set_traits(widget, **state):
    """Traits that the front end sets."""
    widget.comm.handle_msg(
        {"content": {"data": {"method": "update", "state": state, "buffer_paths": []}}, "buffers": []}
    )
