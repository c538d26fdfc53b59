from .answer import Landscape as Landscape
from .answer import RegionReport as RegionReport
from .answer import analyse as analyse
