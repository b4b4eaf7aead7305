"""Where metrics go beside `metrics.jsonl`, by name: `training: {log: [tensorboard]}`."""

from mixcoder.loggers.logger import LOGGERS, Logger, register_logger
from mixcoder.loggers.tensorboard import TensorBoard

__all__ = ["LOGGERS", "Logger", "TensorBoard", "register_logger"]
