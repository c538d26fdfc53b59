from .energy import Energy as Energy
from .energy import EnergySettings as EnergySettings
from .free_energy import FreeEnergy as FreeEnergy
