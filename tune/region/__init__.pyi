from .answer import Landscape as Landscape
from .answer import analyse as analyse
