from .settings import SimulatorSettings as SimulatorSettings
from .simulation import print_lines as print_lines
from .simulation import simulate as simulate
from .truth import read_truth as read_truth
