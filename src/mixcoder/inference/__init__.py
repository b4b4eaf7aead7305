"""Uses of a trained model: images to codes, codes to images, errors of images, walks between images."""

from mixcoder.inference.decoding import decode
from mixcoder.inference.encoding import encode
from mixcoder.inference.latents_file import Codes
from mixcoder.inference.scoring import Score, score
from mixcoder.inference.walking import walk

__all__ = ["Codes", "Score", "decode", "encode", "score", "walk"]
