"""The playground: one HTML page in which MAML is meta-trained live, and which opens from disk without a network."""

from innerloop.playground.page import page as page
from innerloop.playground.page import write_page as write_page
