"""Few-shot classification with the face of scikit-learn, for pictures and features of your own."""

try:
    import sklearn as _sklearn  # noqa: F401
except ImportError:
    raise ImportError("the estimator needs scikit-learn: pip install 'innerloop[sklearn]'") from None

from innerloop.estimator.choose import choose_method
from innerloop.estimator.classifier import METHODS, FewShotClassifier
from innerloop.estimator.pictures import PictureError, load_picture
from innerloop.estimator.saved import Example

__all__ = ["METHODS", "Example", "FewShotClassifier", "PictureError", "choose_method", "load_picture"]
