"""Models handed on: exported folders with a card, the Hugging Face Hub, and the trained models of the package."""

from innerloop.sharing.export import export_classifier, export_run
from innerloop.sharing.hub import from_pretrained, push_to_hub
from innerloop.sharing.shipped import SHIPPED

__all__ = ["SHIPPED", "export_classifier", "export_run", "from_pretrained", "push_to_hub"]
