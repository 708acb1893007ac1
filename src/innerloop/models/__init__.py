"""Models as `nn.Sequential` of named blocks; the last block is the head."""

from innerloop.models.conv4 import conv4
from innerloop.models.convolution import Conv2d
from innerloop.models.head import Linear
from innerloop.models.mlp import mlp
from innerloop.models.normalisation import BatchNorm2d
from innerloop.models.resnet12 import resnet12

__all__ = ["BatchNorm2d", "Conv2d", "Linear", "conv4", "mlp", "resnet12"]
