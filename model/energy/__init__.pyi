from .energy import Energy as Energy
from .energy import EnergySettings as EnergySettings
