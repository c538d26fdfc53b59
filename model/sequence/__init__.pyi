from .trunk import Trunk as Trunk
from .trunk import TrunkSettings as TrunkSettings
