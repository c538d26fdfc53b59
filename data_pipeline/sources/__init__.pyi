from .genome import UNPLACED as UNPLACED
from .ingestion import ingest as ingest
from .settings import StoreSettings as StoreSettings
