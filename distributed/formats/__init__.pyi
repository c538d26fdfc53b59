from .catalogue import Catalogue as Catalogue
from .names import OUTPUT_FORMATS as OUTPUT_FORMATS
from .names import Outputs as Outputs
from .names import require_threshold as require_threshold
from .output_format import Format as Format
from .registry import opened as opened
from .subject import Batch as Batch
from .subject import Subject as Subject
