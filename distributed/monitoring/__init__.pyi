from .bad_steps import Observations as Observations
from .bad_steps import blame as blame
from .responses import Reply as Reply
from .responses import ResponseSettings as ResponseSettings
from .responses import apply_adjustments as apply_adjustments
from .watch import Watch as Watch
from .watch import WatchState as WatchState
from .watch import numbers as numbers
