from .folds import choose_folds as choose_folds
from .runner import ablate as ablate
from .runner import describe as describe
from .summary import hand_out as hand_out
from .variants import DEFAULT as DEFAULT
from .variants import AblationSettings as AblationSettings
from .variants import load_variants as load_variants
from .variants import resolve as resolve
